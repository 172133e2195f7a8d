"""The headers that tell a caller how much it may still do: OpenAI's names, and one set per token bucket."""

from collections.abc import Iterator

from kindling_billing.admission import Verdict
from kindling_billing.limits import MINUTE_US, Scope, burst_of, remaining

TOKEN_BUCKETS = (1, 2, 3)
NAMES = ("requests", "tokens-prompt", "tokens-uncached", "tokens-generated")
Pairs = list[tuple[bytes, bytes]]


def rate_headers(scopes: tuple[Scope, ...], verdict: Verdict) -> Pairs:
    """Limit, what remains and the time to a full bucket; of several scopes the one with the least left."""
    found = [_tightest(scopes, verdict, bucket) for bucket in range(len(NAMES))]
    pairs: Pairs = []
    for name, bucket in zip(NAMES, found, strict=True):
        if bucket:
            pairs += _three(name, bucket)
    tokens = [bucket for number, bucket in enumerate(found) if bucket and number in TOKEN_BUCKETS]
    if tokens:
        pairs += _three("tokens", min(tokens, key=_share))
    return pairs


def duration(us: int) -> str:
    """A span as OpenAI writes it: 20ms, 1.5s, 6m0s."""
    milliseconds = -(-max(us, 0) // 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


_Bucket = tuple[int, int, int]  # limit, what remains, µs until it is full


def _tightest(scopes: tuple[Scope, ...], verdict: Verdict, bucket: int) -> _Bucket | None:
    return min(_states(scopes, verdict, bucket), key=_share, default=None)


def _states(scopes: tuple[Scope, ...], verdict: Verdict, bucket: int) -> Iterator[_Bucket]:
    for scope, state in zip(scopes, verdict.scopes, strict=False):
        limit, offset_us = scope.limits.rates[bucket], state.offsets_us[bucket]
        if limit is not None and offset_us is not None:
            yield limit, remaining(offset_us, limit=limit, burst=burst_of(bucket, limit)), max(offset_us, 0)


def _share(bucket: _Bucket) -> float:
    limit, left, _ = bucket
    return left / limit


def _three(name: str, bucket: _Bucket) -> Pairs:
    limit, left, us = bucket
    return [
        (b"x-ratelimit-limit-" + name.encode(), b"%d" % limit),
        (b"x-ratelimit-remaining-" + name.encode(), b"%d" % left),
        (b"x-ratelimit-reset-" + name.encode(), duration(min(us, 60 * MINUTE_US)).encode()),
    ]
