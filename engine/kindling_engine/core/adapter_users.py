"""Which requests use which adapter, and those that have to step back so that others find room."""

from collections.abc import Callable
from typing import Protocol

from kindling_engine.core.turns import Turns
from kindling_engine.scheduler.request import Request, RequestState


class Holds(Protocol):
    """What a scheduler offers to those who want requests to pause."""

    def hold(self, request_id: str) -> bool: ...

    def resume(self, request_id: str, now_s: float) -> None: ...


class AdapterUsers:
    """Requests with a pin by adapter; ``queue`` is told of each that has stepped back and wants its adapter again."""

    def __init__(
        self, scheduler: Holds, *, release: Callable[[str], None], queue: Callable[[Request], None]
    ) -> None:
        self._scheduler = scheduler
        self._release = release
        self._queue = queue
        self._users: dict[str, dict[str, Request]] = {}
        self._leaving: set[str] = set()
        self._turns = Turns()
        self._step = 0
        self.stepped_back = 0

    @property
    def leaving(self) -> bool:
        """Whether somebody has yet to step back."""
        return bool(self._leaving)

    def add(self, request: Request) -> None:
        """A request has its adapter from now on."""
        self._users.setdefault(request.adapter, {})[request.id] = request
        if request.adapter not in self._leaving:
            self._turns.begin(request.adapter, self._step)

    def remove(self, request: Request) -> bool:
        """It has no longer; False if it had not."""
        users = self._users.get(request.adapter, {})
        if users.pop(request.id, None) is None:
            return False
        if not users:
            del self._users[request.adapter]
            self._leaving.discard(request.adapter)
            self._turns.end(request.adapter)
        self._release(request.adapter)
        return True

    def send_away(self, adapter: str, pins: int) -> bool:
        """Let an adapter's users step back from the next step on; False where not all of its ``pins`` can.

        Checks have no request here, and a request that waits for its grant cannot be held.
        """
        users = self._users.get(adapter, {})
        stuck = any(one.state is RequestState.PARKED and not one.held for one in users.values())
        if stuck or len(users) != pins:
            return False
        self._turns.end(adapter)
        self._leaving.add(adapter)
        return True

    def make_room(self, wanted_bytes: int, size_of: Callable[[str], int], *, newcomers: bool = False) -> bool:
        """Once a step: let adapters whose turn is over go, if room is wanted; True if a request stepped back."""
        before = self.stepped_back
        self._step += 1
        wanted_bytes -= sum(map(size_of, self._leaving))
        for adapter in self._turns.over(self._step, wanted_bytes, size_of, newcomers=newcomers):
            self._turns.end(adapter)
            self._leaving.add(adapter)
        for adapter in list(self._leaving):
            for request in list(self._users.get(adapter, {}).values()):
                # A step under way may still compute it; then it goes after the next one.
                if self._scheduler.hold(request.id) and self.remove(request):
                    self.stepped_back += 1
                    self._queue(request)
        return self.stepped_back > before
