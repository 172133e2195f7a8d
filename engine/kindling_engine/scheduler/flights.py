"""Steps that have been launched and not yet booked, and the blocks that stay taken until they have ended.

A request may end, or lose its blocks, while a step that computes it is under way. That step goes on writing to its
blocks, so they go back to the pool when the last such step has been booked: once, and not before.
"""

from collections import deque
from dataclasses import dataclass, field

from kindling_engine.kvcache.manager import BlockTable, KvManager
from kindling_engine.scheduler.plan import ScheduledRow, StepPlan
from kindling_engine.scheduler.request import Request, RequestState


@dataclass(slots=True, eq=False)
class Leaving:
    """A table that nobody owns any more; ``holds`` steps still write to it."""

    table: BlockTable
    suspect: bool
    holds: int


@dataclass(slots=True, eq=False)
class Flight:
    """A launched step. ``live`` are the requests whose results are still wanted, ``leaving`` those of the others."""

    plan: StepPlan
    live: set[str]
    leaving: dict[str, Leaving] = field(default_factory=dict)


class Flights:
    """Launched steps, oldest first; they land in that order."""

    def __init__(self, kv: KvManager) -> None:
        self._kv = kv
        self._flights: deque[Flight] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def launch(self, plan: StepPlan) -> None:
        """Its requests count as computed so far from now on, and what they draw as on its way."""
        live = set()
        for row in plan.rows:
            request = row.request
            if request.state is RequestState.RUNNING:
                request.computed = row.start + row.count
                request.ahead += row.samples
                live.add(request.id)
        self._flights.append(Flight(plan, live))

    def has(self, plan: StepPlan) -> bool:
        return any(flight.plan is plan for flight in self._flights)

    def carry(self, request_id: str) -> bool:
        """Whether the results of a step under way are wanted for a request."""
        return any(request_id in flight.live for flight in self._flights)

    def land(self, plan: StepPlan) -> Flight:
        """Take out the oldest step, which has ended."""
        flight = self._flights.popleft()
        if flight.plan is not plan:
            raise RuntimeError("steps were booked in another order than they were launched in")
        return flight

    def withdraw(self, plan: StepPlan) -> None:
        """Take out the newest step, whose results never came, as if it had not been launched."""
        flight = self._flights.pop()
        if flight.plan is not plan:
            raise RuntimeError("only the step launched last can be withdrawn")
        for row in plan.rows:
            if row.request.id in flight.live:
                row.request.computed = row.start
                row.request.ahead -= row.samples
            self.let_go(flight, row, suspect=True)

    def leave(self, request: Request, table: BlockTable, *, suspect: bool) -> bool:
        """Keep the blocks of a request that some step still computes; False if none does."""
        holding = [flight for flight in self._flights if request.id in flight.live]
        if not holding:
            return False
        leaving = Leaving(table, suspect, len(holding))
        for flight in holding:
            flight.live.discard(request.id)
            flight.leaving[request.id] = leaving
        return True

    def let_go(self, flight: Flight, row: ScheduledRow, *, suspect: bool) -> None:
        """One step fewer writes to a table that was left; the last one gives its blocks back.

        ``suspect``: what the step wrote may hold NaN.
        """
        leaving = flight.leaving.pop(row.request.id, None)
        if leaving is None:
            return
        leaving.suspect |= suspect
        leaving.holds -= 1
        if leaving.holds == 0:
            self._kv.free(leaving.table, suspect=leaving.suspect)

    @property
    def blocks_coming(self) -> int:
        """Blocks that are free, or will be without anybody's doing: those of requests that have left, if nobody shares
        them, and loans that are due.
        """
        tables = {id(one): one.table for flight in self._flights for one in flight.leaving.values()}
        leaving = sum(len(table.blocks) for table in tables.values())
        return self._kv.pool.free_count + leaving + self._kv.loans.due
