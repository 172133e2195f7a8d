"""What happened to an organisation's things, told within its transaction to whoever above wants to hear of it.

Rooms below cannot call those above. They say what they write down anyway, and an error of a hearer undoes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Happening:
    """`<noun>.<verb>`, the id of what it was done to, whose that is, and what else is known of it."""

    action: str
    target: str
    organisation_id: str
    data: Mapping[str, Any] = field(default_factory=dict)


Hearer = Callable[[Happening], None]
_hearers: list[Hearer] = []


def happenings_hear(hearer: Hearer) -> None:
    """Have everything told to `hearer` from now on; twice is once."""
    if hearer not in _hearers:
        _hearers.append(hearer)


def happening_tell(happening: Happening) -> None:
    """Tell of something, inside the transaction that writes it."""
    if happening.organisation_id:
        for hearer in _hearers:
            hearer(happening)
