"""What a Prometheus server may know of an engine: counts and times, never a prompt, a key or a tenant."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kindling_engine.protocol.ipc import AdapterState, Stats
from kindling_engine.protocol.usage_log import UsageRecord

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKEN_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_PREFIX = "kindling_engine"


class Histogram:
    """Counts of values by upper bound in seconds."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float, count: int = 1) -> None:
        self._counts[bisect_left(self._bounds_s, value_s)] += count
        self.sum_s += value_s * count

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts under their bounds, the last one without a bound."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(str, self._bounds_s), "+Inf"], self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found


class EngineMetrics:
    """Totals over requests and their tokens, beside what the core says of itself."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._output_tokens = 0
        self._ttft = Histogram(_TTFT_S)
        self._token = Histogram(_TOKEN_S)

    def observe(self, record: UsageRecord) -> None:
        """Take in a request that has ended."""
        self._requests[record.finish] += 1
        self._output_tokens += record.completion_tokens
        if record.first_token_ms is not None:
            self._ttft.observe(max(0, record.first_token_ms - record.started_ms) / 1000)

    def observe_tokens(self, since_last_s: float, count: int) -> None:
        """Take in ``count`` tokens that a choice made together, so long after its last ones."""
        self._token.observe(since_last_s / count, count)

    def render(self, stats: Stats, adapters: Sequence[AdapterState] = ()) -> bytes:
        """All metrics as text."""
        # Imported on the first scrape: most engines on a desk are never asked.
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once([*self._families(stats), *_of_adapters(adapters)]))
        return generate_latest(registry)

    def _families(self, stats: Stats) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        used = stats.blocks - stats.free_blocks
        for name, text, value in (
            ("requests_waiting", "Requests in line.", stats.waiting),
            (
                "requests_running",
                "Requests in the batch, those that wait for a grant included.",
                stats.active,
            ),
            ("kv_blocks", "Blocks of the KV cache.", stats.blocks),
            ("kv_blocks_used", "Blocks that running requests hold.", used),
            ("kv_blocks_lent", "Idle blocks that adapters lie in.", stats.lent_blocks),
            ("prefix_states", "Layers' states that are kept of prefixes.", stats.states),
            ("prefix_state_slots", "States that can be kept.", stats.state_slots),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)
        for name, text, count in (
            (
                "steps",
                "Steps; with step_rows the mean batch size, with step_seconds the mean step.",
                stats.steps,
            ),
            ("step_seconds", "Time spent in steps.", stats.step_s),
            ("step_rows", "Requests over all steps.", stats.rows),
            ("step_tokens", "Tokens computed over all steps.", stats.step_tokens),
            ("prompt_tokens", "Prompt tokens of started requests.", stats.prompt_tokens),
            ("cached_tokens", "Prompt tokens that came out of the prefix cache.", stats.cached_tokens),
            ("preemptions", "Times a request gave its blocks up.", stats.preemptions),
            ("adapter_loads", "Adapters read from disk.", stats.adapter_loads),
            ("adapter_fetches", "Adapters asked for that were not on this disk.", stats.adapter_fetches),
            ("adapter_fetch_failures", "Those that did not come.", stats.adapter_fetch_failures),
            ("adapter_evictions", "Adapters that left memory for others.", stats.adapter_evictions),
            (
                "adapter_steps_back",
                "Times a request paused so that another's adapter found room.",
                stats.adapter_steps_back,
            ),
            ("kv_blocks_borrowed", "Blocks lent to adapters.", stats.blocks_borrowed),
            ("kv_blocks_recalled", "Lent blocks that requests called back.", stats.blocks_recalled),
            ("drafted_tokens", "Tokens guessed before they were drawn.", stats.drafted_tokens),
            ("guessed_tokens", "Guessed tokens that were right.", stats.guessed_tokens),
            ("output_tokens", "Tokens made for requests that have ended.", self._output_tokens),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value=count)
        requests = CounterMetricFamily(f"{_PREFIX}_requests", "Requests that have ended.", labels=["finish"])
        for finish, ended in sorted(self._requests.items()):
            requests.add_metric([finish], ended)
        yield requests
        for name, text, histogram in (
            ("time_to_first_token_seconds", "From the request to its first token.", self._ttft),
            ("inter_token_seconds", "Time between one token of an answer and its next.", self._token),
        ):
            yield HistogramMetricFamily(
                f"{_PREFIX}_{name}", text, buckets=histogram.buckets(), sum_value=histogram.sum_s
            )


def _of_adapters(adapters: Sequence[AdapterState]) -> Iterator["Metric"]:
    """Where each adapter is that the core knows of: in some memory, on its way there, or failed lately."""
    from prometheus_client.core import GaugeMetricFamily

    labels = ["adapter", "tier", "state"]
    users = GaugeMetricFamily(
        f"{_PREFIX}_adapter_requests", "Requests that use an adapter, by where it is.", labels=labels
    )
    sizes: Counter[str] = Counter()
    for one in adapters:
        users.add_metric([one.adapter, one.tier, one.state], one.in_use)
        sizes[one.tier] += one.size_bytes
    yield users
    held = GaugeMetricFamily(f"{_PREFIX}_adapter_bytes", "Bytes of adapters in memory.", labels=["tier"])
    for tier, size in sorted(sizes.items()):
        held.add_metric([tier], size)
    yield held


class _Once:
    def __init__(self, families: list["Metric"]) -> None:
        self._families = families

    def collect(self) -> Iterator["Metric"]:
        return iter(self._families)
