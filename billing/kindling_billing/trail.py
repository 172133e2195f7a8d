"""Tells of money actions, inside their transaction, to whoever above billing keeps a record of who did what.

Billing knows no people. It says what happened and what was there before and after; the keeper adds who, and from where.
"""

from typing import Any, Protocol


class Keeper(Protocol):
    """Writes one action down; an error in it undoes the action."""

    def __call__(
        self,
        *,
        action: str,
        owner_id: str,
        target: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None: ...


_keepers: list[Keeper] = []


def trail_keep(keeper: Keeper) -> None:
    """Have every money action told to `keeper` from now on; twice is once."""
    if keeper not in _keepers:
        _keepers.append(keeper)


def trail_note(
    *,
    action: str,
    owner_id: str,
    target: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Tell of one action: `<noun>.<verb in the past>`, whose money, which object; amounts as text."""
    for keeper in _keepers:
        keeper(action=action, owner_id=owner_id, target=target, before=before, after=after)
