"""What a Prometheus server may know of a gateway: counts and times, never a prompt, a key or an organisation."""

import hmac
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from kindling_platform.gateway.access_log import CLIENT_GONE
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routes import route_find

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
PREFIX = "kindling_gateway"
OWN_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
UPSTREAM_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WHOLE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Headers that a proxy leaves on what it passes on: behind one every client looks like a neighbour.
FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-forwarded-host")
LOOPBACK = ("127.0.0.1", "::1")


class Spooled(Protocol):
    """What tells how much waits to be booked."""

    @property
    def waiting(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def has_room(self) -> bool: ...


class Histogram:
    """Counts of values by upper bound in seconds."""

    __slots__ = ("_bounds_s", "_counts", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self.sum_s += value_s

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts under their bounds, the last one without a bound."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(str, self._bounds_s), "+Inf"], self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class GatewayMetrics:
    """Totals over the requests that this process has answered."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._tokens: Counter[str] = Counter()
        self._own, self._upstream, self._whole = Histogram(OWN_S), Histogram(UPSTREAM_S), Histogram(WHOLE_S)
        self._running = 0

    def begin(self) -> None:
        """A request has come in."""
        self._running += 1

    def observe(self, request: Request) -> None:
        """Take in a request that has ended."""
        self._running -= 1
        facts = request.facts
        route = route_find(request.path)
        what = route.action.value if route else "other"
        self._requests[what, str(request.status or CLIENT_GONE), str(facts.get("outcome", ""))] += 1
        self._whole.observe(monotonic() - request.started_at)
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
            self._tokens[name] += facts.get(name, 0)
        if "upstream_ms" in facts and "first_byte_ms" in facts:
            self._upstream.observe(facts["upstream_ms"] / 1000)
            self._own.observe(max(0.0, facts["first_byte_ms"] - facts["upstream_ms"]) / 1000)

    def render(
        self,
        spool: Spooled | None,
        *,
        up: Mapping[str, bool],
        replicas_waited_for: int,
        more: Iterable["Metric"] = (),
    ) -> bytes:
        """All metrics as text, and `more` that others have counted; nothing of the spool without one."""
        # Imported on the first scrape: most gateways on a desk are never asked.
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            _Once(
                [
                    *self._counts(),
                    *self._times(),
                    *_gauges(self._running, spool, up, replicas_waited_for),
                    *more,
                ]
            )
        )
        return generate_latest(registry)

    def _counts(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily

        requests = CounterMetricFamily(
            f"{PREFIX}_requests",
            "Requests by route, status and error code.",
            labels=["route", "status", "code"],
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        tokens = CounterMetricFamily(f"{PREFIX}_tokens", "Tokens that engines have counted.", labels=["kind"])
        for kind, count in self._tokens.items():
            tokens.add_metric([kind.removesuffix("_tokens")], count)
        yield tokens

    def _times(self) -> Iterator["Metric"]:
        from prometheus_client.core import HistogramMetricFamily

        for name, text, histogram in (
            (
                "own_seconds",
                "To the first byte, without the engine's part: what the gateway adds.",
                self._own,
            ),
            ("upstream_seconds", "From sending to an engine to its first byte.", self._upstream),
            ("request_seconds", "From the request's first byte to the answer's last.", self._whole),
        ):
            family = HistogramMetricFamily(f"{PREFIX}_{name}", text)
            family.add_metric([], histogram.buckets(), histogram.sum_s)
            yield family


def may_read(request: Request, token: str | None = None) -> bool:
    """Whether a request has the scraper's token, or comes from this machine itself and no proxy has passed it on."""
    if token and hmac.compare_digest(request.headers.get(b"authorization", b""), b"Bearer " + token.encode()):
        return True
    client = request.scope.get("client")
    near = client is None or client[0] in LOOPBACK
    return near and not any(name in request.headers for name in FORWARDED)


def _gauges(
    running: int, spool: Spooled | None, up: Mapping[str, bool], replicas_waited_for: int
) -> Iterator["Metric"]:
    from prometheus_client.core import GaugeMetricFamily

    gauges = [
        ("requests_running", "Requests that have not ended.", running),
        ("requests_waiting", "Requests that wait for a replica.", replicas_waited_for),
    ]
    if spool:
        gauges += [
            ("spool_waiting", "Requests that have ended and are not in Postgres yet.", spool.waiting),
            ("spool_bytes", "What the spool takes of the disk.", spool.size_bytes),
            ("spool_has_room", "1 while another request can be recorded.", int(spool.has_room)),
        ]
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
    family = GaugeMetricFamily(f"{PREFIX}_up", "1 while what the gateway stands on answers.", labels=["part"])
    for part, answers in up.items():
        family.add_metric([part], int(answers))
    yield family


class _Once:
    """A collector of metrics that are there already."""

    def __init__(self, families: list["Metric"]) -> None:
        self._families = families

    def collect(self) -> Iterator["Metric"]:
        return iter(self._families)
