"""Holds that came to Valkey, or stayed there, after their requests had ended; those of posted requests are dropped.

What ended while Valkey was away is told late, and the rater may have been faster. The books are read once the hold is
there: a request that is posted after that reading has its hold dropped by its posting.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

from kindling_billing import budgets, holds
from kindling_billing.admission import Payer
from kindling_billing.budgets import Spent
from kindling_platform.gateway.database import POSTED_OF_ORG, Database, DatabaseUnavailableError
from kindling_platform.gateway.settlements import Ended
from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError

SpentName = tuple[str, str, str, str]


class LateHolds:
    """Looks whether requests are posted whose ends Valkey has heard of late; `load_spent` reads a scope's spending."""

    def __init__(
        self, database: Database, valkey: Valkey, *, load_spent: Callable[[SpentName], Awaitable[Spent]]
    ) -> None:
        self._database = database
        self._valkey = valkey
        self._load_spent = load_spent

    async def look(self, ended: Sequence[Ended]) -> None:
        """Drop the holds of those that are posted; without books or Valkey the minute's comparison does it."""
        try:
            for owner_id in {one.payer.owner_id for one in ended}:
                await self._look(owner_id, [one for one in ended if one.payer.owner_id == owner_id])
        except (DatabaseUnavailableError, ValkeyUnavailableError):
            return

    async def _look(self, owner_id: str, ended: list[Ended]) -> None:
        names = [one.request_id for one in ended]
        row = await self._database.row(POSTED_OF_ORG, [names, owner_id])
        if row is None or not row["posted"]:
            return
        posted = [str(request_id) for request_id in row["posted"]]
        # With the balance that they were charged to: a hold that is gone before frees money that is spent.
        args = holds.posted_args(
            version=int(row["version"]), balance_picousd=int(row["balance_picousd"]), request_ids=posted
        )
        await self._valkey.run("posted", holds.script_keys(owner_id), args)
        await self._drop_spending((one.payer for one in ended if one.request_id in posted), posted)

    async def _drop_spending(self, payers: Iterable[Payer], posted: list[str]) -> None:
        moment = datetime.now(UTC)
        scopes = {
            scope.name: (payer.owner_id, scope)
            for payer in payers
            for scope in payer.scopes
            if scope.is_booked and scope.limits.has_budget
        }
        for owner_id, scope in scopes.values():
            spent = await self._load_spent((owner_id, scope.kind, scope.id, budgets.day_of(moment)))
            args = budgets.spent_args(spent, moment=moment, request_ids=posted)
            await self._valkey.run("spent", budgets.spent_keys(scope.name), args)
