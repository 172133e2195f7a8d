"""What margins say in a sentence: whether serving a model oneself cost less than buying the same tokens."""

from dataclasses import dataclass

from kindling_billing.margins import Margin, Quote
from kindling_billing.money import pico_to_usd_text

CENT_PICOUSD = 10**10


@dataclass(frozen=True, slots=True)
class Finding:
    """The sentence, and whether it is good news: None while nothing can be said."""

    text: str
    is_cheaper: bool | None = None


def finding_of(margin: Margin, quote: Quote | None) -> Finding:
    """What a model's sums say beside a quote."""
    if not margin.tokens:
        return Finding("No token was served, so there is nothing to compare.")
    own = margin.per_million_picousd
    if own is None:
        lacking = "No replica was seen running." if not margin.running_us else (
            "Enter what an hour of a replica costs, for all of the time that replicas ran."
        )  # fmt: skip
        return Finding(lacking)
    said = f"Self-hosting cost {per_million(own)} per million tokens"
    if quote is None:
        return Finding(f"{said}. Enter a hosted price to compare.")
    hosted = margin.hosted_per_million_picousd(quote) or 0
    return Finding(
        f"{said}; the hosted price is {per_million(hosted)}. {_verdict(own, hosted)}", own <= hosted
    )


def even_point(margin: Margin, quote: Quote | None) -> str:
    """From how much load on self-hosting pays, in a sentence; "" when that cannot be said."""
    even = margin.even_tokens_per_hour(quote) if quote else None
    served = margin.tokens_per_hour
    if even is None or served is None:
        return ""
    return f"A replica served {served:,} tokens an hour; with this mixture it pays from {even:,} tokens an hour on."


def per_million(picousd: int) -> str:
    """Dollars per million tokens: cents from a cent up, else as many digits as it needs."""
    places = 2 if picousd >= CENT_PICOUSD else 6
    return f"${pico_to_usd_text(picousd, places)}"


def _verdict(own: int, hosted: int) -> str:
    if own == hosted:
        return "They are the same."
    if not hosted:
        return "Buying costs nothing."
    if own > 2 * hosted:
        return f"Self-hosting costs {_times(own, hosted)} as much."
    percent = abs(hosted - own) * 100 // hosted
    return f"Self-hosting is {percent} % {'cheaper' if own < hosted else 'dearer'}."


def _times(own: int, hosted: int) -> str:
    tenths = own * 10 // hosted
    return f"{tenths // 10:,} times" if tenths >= 100 else f"{tenths / 10:.1f} times"
