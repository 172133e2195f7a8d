"""What the workers have found when they compared the books last, as metrics: Valkey and ledger, spools and logs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError
from kindling_platform.usage.comparisons import COMPARED_AT, DRIFT_KEY, WITNESSES_KEY

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "kindling_books"
READ = "return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}"
NANO = 1e-9
# Field, metric, factor, text.
DRIFT = (
    ("wallets", "wallets", 1.0, "Wallets in Valkey that were compared with the ledger."),
    ("behind", "wallets_behind", 1.0, "Of these, those whose last posting Valkey had not heard of."),
    ("drifted", "wallets_drifted", 1.0, "Of these, those whose balance or holds did not add up."),
    (
        "drift_nano",
        "drift_dollars",
        NANO,
        "Valkey's balances against the ledger's, at the same version of each wallet; 0 unless something is wrong.",
    ),
    (
        "holds_drift_nano",
        "holds_drift_dollars",
        NANO,
        "Sums of holds in Valkey against the holds themselves; 0 unless something is wrong.",
    ),
    ("holds_dropped", "holds_dropped", 1.0, "Holds of posted requests that the comparison had to remove."),
    ("budgets", "budgets", 1.0, "Budgets in Valkey that were counted anew from the books."),
    ("budgets_drifted", "budgets_drifted", 1.0, "Of these, those that were wrong."),
    ("budget_drift_nano", "budget_drift_dollars", NANO, "By how much budgets were wrong, together."),
    (COMPARED_AT, "compared_at_seconds", 1.0, "When Valkey and ledger were compared, since 1970."),
)
WITNESSES = (
    ("differing", "witnesses_differing", 1.0, "Requests of a day that gateway and engine count differently."),
    ("only_engine", "witnesses_only_engine", 1.0, "Requests of a day that only an engine's log knows."),
    ("only_gateway", "witnesses_only_gateway", 1.0, "Requests of a day that only a gateway's spool knows."),
    ("unbooked", "unbooked", 1.0, "Requests that were shipped ten minutes ago and are not booked yet."),
)

Found = list[dict[str, str]]


async def books_read(valkey: Valkey) -> Found:
    """The last comparisons, empty ones where there was none or Valkey is away."""
    try:
        return [_pairs(row) for row in await valkey.run("books", [DRIFT_KEY, WITNESSES_KEY], [])]
    except ValkeyUnavailableError:
        return [{}, {}]


def books_metrics(found: Found) -> Iterator["Metric"]:
    """A gauge for each figure that is known."""
    for row, fields in zip(found, (DRIFT, WITNESSES), strict=True):
        yield from _gauges(row, fields)


def _gauges(row: Mapping[str, str], fields: tuple[tuple[str, str, float, str], ...]) -> Iterator["Metric"]:
    from prometheus_client.core import GaugeMetricFamily

    for field, name, factor, text in fields:
        if field in row:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=int(row[field]) * factor)


def _pairs(row: list[Any]) -> dict[str, str]:
    return {row[place].decode(): row[place + 1].decode() for place in range(0, len(row), 2)}
