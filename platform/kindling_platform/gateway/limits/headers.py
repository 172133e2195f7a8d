"""The headers that tell a caller how much it may still do: OpenAI's names, and one set per token bucket."""

from kindling_billing.admission import Verdict
from kindling_billing.limits import MINUTE_US, Scope, remaining

NAMES = ("requests", "tokens-prompt", "tokens-uncached", "tokens-generated")
Pairs = list[tuple[bytes, bytes]]
_Bucket = tuple[int, int, int]  # limit, what remains, µs until it is full


def rate_headers(scopes: tuple[Scope, ...], verdict: Verdict) -> Pairs:
    """Limit, what remains and the time to a full bucket; of several scopes the one with the least left."""
    tightest: list[_Bucket | None] = [None] * len(NAMES)
    for scope, state in zip(scopes, verdict.scopes, strict=False):
        limits = scope.limits
        for number, (limit, offset_us) in enumerate(zip(limits.rates, state.offsets_us, strict=True)):
            if limit is None or offset_us is None:
                continue
            left = remaining(offset_us, limit=limit, burst=limits.bursts[number])
            known = tightest[number]
            # Not by its share: a bucket may hold less than its limit, so that of a full one's share little is told.
            if known is None or (left, limit) < (known[1], known[0]):
                tightest[number] = (limit, left, max(offset_us, 0))
    pairs: Pairs = []
    for names, bucket in zip(_HEADERS, tightest, strict=True):
        if bucket:
            pairs += _three(names, bucket)
    tokens = [bucket for bucket in tightest[1:] if bucket]
    if tokens:
        pairs += _three(_TOKENS, min(tokens, key=_share))
    return pairs


def duration(us: int) -> str:
    """A span as OpenAI writes it: 20ms, 1.5s, 6m0s."""
    milliseconds = -(-max(us, 0) // 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _share(bucket: _Bucket) -> float:
    limit, left, _ = bucket
    return left / limit


def _names(of: str) -> tuple[bytes, bytes, bytes]:
    return (
        f"x-ratelimit-limit-{of}".encode(),
        f"x-ratelimit-remaining-{of}".encode(),
        f"x-ratelimit-reset-{of}".encode(),
    )


_HEADERS = tuple(_names(name) for name in NAMES)
_TOKENS = _names("tokens")


def _three(names: tuple[bytes, bytes, bytes], bucket: _Bucket) -> Pairs:
    limit, left, us = bucket
    reset = duration(min(us, 60 * MINUTE_US))
    return [(names[0], b"%d" % limit), (names[1], b"%d" % left), (names[2], reset.encode())]
