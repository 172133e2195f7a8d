"""What goes wrong on purpose: shares of requests that fail, and webhooks that come twice, late or shuffled."""

import random
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """How a request fails. The first two have had their effect."""

    TIMEOUT_AFTER = "timeout_after"
    STORED_500_AFTER = "stored_500_after"
    STORED_500_BEFORE = "stored_500_before"
    RATE_LIMITED = "rate_limited"


@dataclass(slots=True)
class Faults:
    """Shares between 0 and 1 of the requests that change something; nothing fails unless told.

    `outage` answers every request with 503 and delivers nothing. `copies`, `shuffle_s` and `delay_s` are of webhooks;
    `hold` keeps them until they are taken by hand.
    """

    timeout_after: float = 0.0
    stored_500_after: float = 0.0
    stored_500_before: float = 0.0
    rate_limited: float = 0.0
    outage: bool = False
    copies: int = 1
    shuffle_s: float = 0.0
    delay_s: float = 0.0
    hold: bool = False
    seed: int = 0
    _random: random.Random = field(default_factory=random.Random)

    def set(self, **changes: float) -> None:
        """Change some; a seed makes the draws repeatable."""
        for name, value in changes.items():
            if name.startswith("_") or name not in self.__slots__:
                raise ValueError(name)
            setattr(self, name, type(getattr(self, name))(value))
        if "seed" in changes:
            self._random.seed(self.seed)

    def draw(self) -> Fault | None:
        """What becomes of the next request."""
        place = self._random.random()
        for fault in Fault:
            place -= float(getattr(self, fault))
            if place < 0:
                return fault
        return None

    def delivery_times(self, now: float) -> list[float]:
        """When the copies of an event are delivered."""
        return [now + self.delay_s + self._random.random() * self.shuffle_s for _ in range(self.copies)]
