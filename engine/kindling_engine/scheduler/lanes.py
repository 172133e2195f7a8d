"""The waiting requests of one priority: a lane for each tenant, the least served tenant's first."""

from collections import OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

from kindling_engine.scheduler.request import Request

_Place = tuple[float, float, int, str]
"""Tokens served, arrival of the first in the lane, number and tenant of the lane."""
_VOID_PLACES = 64


@dataclass(slots=True, eq=False)
class _Lane:
    number: int
    requests: OrderedDict[str, Request] = field(default_factory=OrderedDict)
    place: _Place | None = None


class Lanes:
    """First come first served within a lane. Of the places in the heap, each lane's newest counts; others are void.

    ``served`` only grows while a tenant waits, so a place may be too far to the front and never too far to the back:
    it is put right when it has come to the very front.
    """

    def __init__(self, priority: int, served: Mapping[str, float]) -> None:
        self._priority = priority
        self._served = served
        self._lanes: dict[str, _Lane] = {}
        self._heap: list[_Place] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._lanes)

    def push(self, request: Request, *, front: bool) -> None:
        lane = self._lanes.get(request.tenant)
        if lane is None:
            lane = self._lanes[request.tenant] = _Lane(next(self._numbers))
        lane.requests[request.id] = request
        if front:
            lane.requests.move_to_end(request.id, last=False)
        if _head(lane) is request:
            self._place(lane)

    def remove(self, request: Request) -> bool:
        """False if it does not wait here."""
        lane = self._lanes.get(request.tenant)
        if lane is None or request.id not in lane.requests:
            return False
        moves = _head(lane) is request
        del lane.requests[request.id]
        if not lane.requests:
            del self._lanes[request.tenant]
        elif moves:
            self._place(lane)
        return True

    def first(self, skip: Container[tuple[str, int]] = ()) -> Request | None:
        """The first of the least served tenant, leaving out the lanes ``(tenant, priority)`` in ``skip``; of equals
        the one that came first.
        """
        passed: list[_Place] = []
        while (lane := self._front()) is not None and (self._heap[0][-1], self._priority) in skip:
            passed.append(heappop(self._heap))
        for place in passed:
            heappush(self._heap, place)
        return None if lane is None else _head(lane)

    def least_served(self) -> float | None:
        """Tokens served to the least served tenant; None if nobody waits."""
        return None if self._front() is None else self._heap[0][0]

    def _front(self) -> _Lane | None:
        """The lane whose place is first, when void places are gone and that one is right."""
        while self._heap:
            place = self._heap[0]
            lane = self._lanes.get(place[-1])
            if lane is None or lane.place is not place:
                heappop(self._heap)
            elif (right := self._right_place(lane)) != place:
                lane.place = right
                heapreplace(self._heap, right)
            else:
                return lane
        return None

    def _place(self, lane: _Lane) -> None:
        lane.place = self._right_place(lane)
        heappush(self._heap, lane.place)
        if len(self._heap) > 2 * len(self._lanes) + _VOID_PLACES:
            self._heap = [one.place for one in self._lanes.values() if one.place is not None]
            heapify(self._heap)

    def _right_place(self, lane: _Lane) -> _Place:
        head = _head(lane)
        return (self._served.get(head.tenant, 0.0), head.arrived_s, lane.number, head.tenant)


def _head(lane: _Lane) -> Request:
    return next(iter(lane.requests.values()))
