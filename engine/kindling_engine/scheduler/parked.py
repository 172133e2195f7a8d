"""Requests that take part in no step but keep their blocks: until they get a grant, or are resumed."""

from math import inf

from kindling_engine.scheduler.request import Request, RequestState


class Parked:
    """By id, in the order in which they were parked. A held request has no deadline."""

    def __init__(self, grant_wait_s: float) -> None:
        self._grant_wait_s = grant_wait_s
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def put(self, request: Request, now_s: float) -> None:
        """Park a request that has reached its grant."""
        self._put(request, now_s + self._grant_wait_s)
        request.held = False

    def hold(self, request: Request) -> None:
        self._put(request, inf)
        request.held = True

    def take(self, request: Request) -> None:
        del self._requests[request.id]

    def holding(self) -> list[Request]:
        """Those that have blocks."""
        return [request for request in self._requests.values() if request.computed]

    def late(self, now_s: float) -> list[Request]:
        """Those whose grant did not come in time."""
        return [request for request in self._requests.values() if request.parked_until_s <= now_s]

    def next_deadline_s(self) -> float | None:
        """When the first one gives up waiting for a grant."""
        return min((one.parked_until_s for one in self._requests.values() if not one.held), default=None)

    def _put(self, request: Request, until_s: float) -> None:
        request.state = RequestState.PARKED
        request.parked_until_s = until_s
        self._requests[request.id] = request
