"""Waiting requests, handed out by priority class and, inside a class, fairly over tenants by weight.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", 2024): each tenant's counter
grows with the tokens it is served, divided by its weight; the tenant with the lowest counter goes first. A tenant
that comes back from idleness is lifted to the level of the others, so that nobody saves up credit.

The bound: a prompt is charged when its request is started, an output token when it is made, so between two turns
a counter grows by at most ``U = (PROMPT_WEIGHT · P + OUTPUT_WEIGHT · M) / w``, where P is the longest prompt, M the
most output tokens that the requests running at one time can make, and w the smallest weight. Two tenants of one
class that wait throughout an interval therefore differ in weighted service by at most ``2 U``, whatever either
sends. What waits for a prefix that is being computed gives up its turn meanwhile, and is outside the bound.
"""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from kindling_engine.scheduler.lanes import Lanes
from kindling_engine.scheduler.request import Request

PROMPT_WEIGHT = 1
OUTPUT_WEIGHT = 2
AGEING_S = 5.0
_KEPT_COUNTERS = 4096


@dataclass(slots=True)
class _PriorityClass:
    """Requests of one priority, passed over ``since_s``."""

    since_s: float
    lanes: Lanes


class FairQueue:
    """A higher ``priority`` goes first; a class that is passed over rises by one per ``AGEING_S``.

    Classes age, not requests: the older requests of a flooding tenant would otherwise outrank its neighbours.
    """

    def __init__(self) -> None:
        self._classes: dict[int, _PriorityClass] = {}
        self._counters: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()
        self._last_tenant = ""
        self._prune_at = _KEPT_COUNTERS

    def __len__(self) -> int:
        return self._waiting.total()

    def push(self, request: Request, now_s: float, *, front: bool = False) -> None:
        """Queue a request; ``front`` is for one that had its turn already and was preempted."""
        tenant = request.tenant
        if not front and not self._waiting[tenant]:
            self._counters[tenant] = max(self._counters.get(tenant, 0.0), self._level())
        group = self._classes.get(request.priority)
        if group is None:
            group = self._classes[request.priority] = _PriorityClass(
                now_s, Lanes(request.priority, self._counters)
            )
        group.lanes.push(request, front=front)
        self._waiting[tenant] += 1

    def remove(self, request: Request) -> None:
        group = self._classes.get(request.priority)
        if group is None or not group.lanes.remove(request):
            return
        self._last_tenant = request.tenant
        self._waiting[request.tenant] -= 1
        if not self._waiting[request.tenant]:
            del self._waiting[request.tenant]
        if not group.lanes:
            del self._classes[request.priority]

    def peek(self, now_s: float, skip: Container[tuple[str, int]] = ()) -> Request | None:
        """The request whose turn it is, leaving out the lanes ``(tenant, priority)`` in ``skip``."""
        ranked = sorted(
            self._classes.items(),
            key=lambda item: (-item[0] - int((now_s - item[1].since_s) / AGEING_S), item[1].since_s),
        )
        firsts = (group.lanes.first(skip) for _, group in ranked)
        return next((request for request in firsts if request is not None), None)

    def has_above(self, priority: int, skip: Container[tuple[str, int]] = ()) -> bool:
        """Whether somebody of a higher class waits for its turn, leaving out the lanes in ``skip``."""
        above = (group.lanes for waiting, group in self._classes.items() if waiting > priority)
        return any(lanes.first(skip) is not None for lanes in above)

    def pop(self, request: Request, now_s: float) -> None:
        """Take out the request that ``peek`` returned."""
        self._classes[request.priority].since_s = now_s
        self.remove(request)

    def charge(self, request: Request, *, prompt_tokens: int = 0, output_tokens: int = 0) -> None:
        served = (PROMPT_WEIGHT * prompt_tokens + OUTPUT_WEIGHT * output_tokens) / request.weight
        counter = self._counters.get(request.tenant)
        self._counters[request.tenant] = (self._level() if counter is None else counter) + served
        if len(self._counters) > self._prune_at:
            self._prune()

    def _level(self) -> float:
        """Where a newcomer starts: with the least served of those that wait, else with the last that did."""
        least = [group.lanes.least_served() for group in self._classes.values()]
        waiting = [served for served in least if served is not None]
        return min(waiting) if waiting else self._counters.get(self._last_tenant, 0.0)

    def _prune(self) -> None:
        """Drop counters that would be lifted anyway when their tenant comes back."""
        level = self._level()
        kept = {*self._waiting, self._last_tenant}
        for tenant in [one for one, count in self._counters.items() if one not in kept and count <= level]:
            del self._counters[tenant]
        self._prune_at = max(_KEPT_COUNTERS, 2 * len(self._counters))
