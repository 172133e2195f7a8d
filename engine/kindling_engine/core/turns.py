"""Who makes room for adapters that wait: those that have had their turn, the longest first.

The bound: while an adapter waits for room, each of those in memory steps back once it has had ``TURN_STEPS`` steps, and
queues behind whoever waited before it. So an adapter with n bytes of others ahead of it has its place after at most
``⌈n / budget⌉ + 1`` turns, the loads on the way, and what requests take that cannot be held: those that wait for a
grant, and checks.
"""

from collections.abc import Callable

TURN_STEPS = 16
FIRST_STEPS = 3
"""Of a turn while somebody waits who has had none: a first token sooner is worth some loads."""


class Turns:
    """When each adapter in use began its turn, in steps."""

    def __init__(self) -> None:
        self._began: dict[str, int] = {}

    def begin(self, adapter: str, step: int) -> None:
        """It is in use from now on, if it was not."""
        self._began.setdefault(adapter, step)

    def end(self, adapter: str) -> None:
        self._began.pop(adapter, None)

    def over(
        self, step: int, wanted_bytes: int, size_of: Callable[[str], int], *, newcomers: bool = False
    ) -> list[str]:
        """Adapters whose turn is over, as many as it takes for ``wanted_bytes``."""
        steps, chosen = FIRST_STEPS if newcomers else TURN_STEPS, []
        for adapter, began in sorted(self._began.items(), key=lambda item: item[1]):
            if wanted_bytes <= 0 or step - began < steps:
                break
            chosen.append(adapter)
            wanted_bytes -= size_of(adapter)
        return chosen
