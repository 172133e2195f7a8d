"""Waiting requests, handed out by priority and, inside a priority, fairly over tenants.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", 2024): each tenant's
counter grows with the tokens it is served; the tenant with the lowest counter goes first. A tenant that comes
back from idleness is lifted to the level of the others, so that nobody saves up credit.
"""

from collections import Counter, OrderedDict
from collections.abc import Container

from kindling_engine.scheduler.request import Request

PROMPT_WEIGHT = 1
OUTPUT_WEIGHT = 2
AGEING_S = 5.0
_MAX_IDLE_COUNTERS = 4096


class FairQueue:
    """Queue of waiting requests; a higher ``priority`` goes first, and waiting raises it by one per
    ``AGEING_S``.
    """

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, int], OrderedDict[str, Request]] = {}
        self._counters: dict[str, float] = {}
        self._floor = 0.0
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._waiting.total()

    def push(self, request: Request, *, front: bool = False) -> None:
        """Queue a request; ``front`` is for one that had its turn already and was preempted."""
        key = (request.tenant, request.priority)
        if not front and self._waiting[request.tenant] == 0:
            self._counters[request.tenant] = max(self._counters.get(request.tenant, 0.0), self._floor)
        lane = self._lanes.setdefault(key, OrderedDict())
        lane[request.id] = request
        if front:
            lane.move_to_end(request.id, last=False)
        self._waiting[request.tenant] += 1

    def remove(self, request: Request) -> None:
        key = (request.tenant, request.priority)
        lane = self._lanes.get(key)
        if lane is None or lane.pop(request.id, None) is None:
            return
        self._waiting[request.tenant] -= 1
        if not self._waiting[request.tenant]:
            del self._waiting[request.tenant]
        if not lane:
            del self._lanes[key]

    def peek(self, now_s: float, skip: Container[tuple[str, int]] = ()) -> Request | None:
        """The request whose turn it is, leaving out the lanes ``(tenant, priority)`` in ``skip``."""
        best: Request | None = None
        best_key: tuple[int, float, float] | None = None
        for (tenant, priority), lane in self._lanes.items():
            if (tenant, priority) in skip:
                continue
            request = next(iter(lane.values()))
            aged = priority + int((now_s - request.arrived_s) / AGEING_S)
            key = (-aged, self._counters.get(tenant, 0.0), request.arrived_s)
            if best_key is None or key < best_key:
                best, best_key = request, key
        return best

    def pop(self, request: Request) -> None:
        """Take out the request that ``peek`` returned; its tenant's level becomes the floor for newcomers."""
        self.remove(request)
        self._floor = max(self._floor, self._counters.get(request.tenant, 0.0))
        if len(self._counters) > _MAX_IDLE_COUNTERS:
            self._counters = {
                tenant: count
                for tenant, count in self._counters.items()
                if tenant in self._waiting or count > self._floor
            }

    def charge(self, tenant: str, *, prompt_tokens: int = 0, output_tokens: int = 0) -> None:
        served = PROMPT_WEIGHT * prompt_tokens + OUTPUT_WEIGHT * output_tokens
        self._counters[tenant] = self._counters.get(tenant, self._floor) + served
