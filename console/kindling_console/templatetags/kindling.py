"""How the console writes money, counts, times and icons."""

import hashlib
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from kindling_billing.gpu_hours import HOUR_MS, hour_price_plain
from kindling_billing.money import PICO_PER_USD, pico_to_usd_text
from kindling_console.page_org import FIELD
from kindling_platform.common.clock import now

register = template.Library()
CENT_PICOUSD = PICO_PER_USD // 100
MICROS_PER_HOUR = 3_600_000_000
PURPOSES = {"topup": "Credit bought", "auto_topup": "Automatic top-up", "invoice": "Invoice"}
SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")
EXACT_BELOW = 10_000
COUNT_UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))
AGES = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (30 * 86400, 86400, "d"))


@register.simple_tag
def asset(path: str) -> str:
    """The address of a static file, with its content's hash so that an upgrade is seen at once."""
    version = _digest(path) if not settings.DEBUG else _digest.__wrapped__(path)
    return f"{static(path)}?v={version}"


@register.simple_tag(takes_context=True)
def csrf_token(context: template.Context) -> SafeString:
    """What each form carries in this place: Django's token, and the organisation that the page shows."""
    hidden = format_html('<input type="hidden" name="csrfmiddlewaretoken" value="{}">', context["csrf_token"])
    found = context.get("visitor")
    visitor = found() if callable(found) else found
    if visitor is None:
        return hidden
    return hidden + format_html('<input type="hidden" name="{}" value="{}">', FIELD, visitor.org.id)


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """An icon of the vendored set; decoration only, so hidden from screen readers."""
    return format_html(
        '<svg class="icon{}" aria-hidden="true"><use href="{}#{}"></use></svg>',
        f" icon-{size}" if size else "", asset("vendor/icons.svg"), name,
    )  # fmt: skip


@register.filter
def usd(picousd: int | None) -> str:
    """A balance or a sum: six decimals below $100, exact to the shown digit."""
    if picousd is None:
        return "—"
    text = pico_to_usd_text(int(picousd))
    return f"−${text[1:]}" if text.startswith("-") else f"${text}"


@register.filter
def usd_signed(picousd: int) -> str:
    """A movement of money, with its sign."""
    return usd(picousd) if picousd < 0 else f"+{usd(picousd)}"


@register.filter
def purpose(payment: Any) -> str:
    """What a payment was for."""
    return PURPOSES.get(payment.purpose, str(payment.purpose))


@register.filter
def usd_cents(cents: int | str | None) -> str:
    """Cents as dollars; a figure that is no whole number of them is left as it is."""
    if cents is None:
        return "—"
    if isinstance(cents, str):
        if not cents.lstrip("-").isdigit():
            return f"{cents} ¢"
        cents = int(cents)
    return f"{'−' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


@register.filter
def usd_cost(picousd: int | None) -> str:
    """A cost: cents from a cent up, else as many of six decimals as it has, and more for less than those."""
    if picousd is None:
        return "—"
    cost, sign = abs(int(picousd)), "−" if int(picousd) < 0 else ""
    if cost == 0:
        return "$0"
    if cost < PICO_PER_USD // 10**6:
        return f"{sign}${pico_to_usd_text(cost, 9 if cost >= 1000 else 12).rstrip('0')}"
    return sign + (usd(cost) if cost < 100 * CENT_PICOUSD else f"${pico_to_usd_text(cost, 2)}")


@register.filter
def usd_moved(picousd: int) -> str:
    """A cost, or a dash where nothing moved."""
    return usd_cost(picousd) if picousd else "—"


@register.filter
def usd_exact(picousd: int | None) -> str:
    """The whole truth to the last pico-dollar, for titles."""
    if picousd is None:
        return ""
    return f"{'−' if int(picousd) < 0 else ''}${pico_to_usd_text(abs(int(picousd)), 12)}"


@register.filter
def per_million(picousd_per_token: int | str | None) -> str:
    """A price per token as dollars per million tokens."""
    # Of a price that is not there a template reads "".
    if picousd_per_token is None or picousd_per_token == "":
        return "no price"
    text = pico_to_usd_text(int(picousd_per_token) * 10**6, 6).rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


@register.filter
def count(number: int | None) -> SafeString | str:
    """A count: short when long, exact in its title."""
    if number is None:
        return "—"
    value = int(number)
    if abs(value) < EXACT_BELOW:
        return f"{value:,}"
    return SafeString(f'<span title="{value:,}">{count_plain(value)}</span>')  # digits and a unit


def count_plain(value: int) -> str:
    """A count in few characters: exact below ten thousand, else with a unit."""
    if abs(value) < EXACT_BELOW:
        return f"{value:,}"
    unit, name = next((unit, name) for unit, name in COUNT_UNITS if abs(value) >= unit)
    return f"{value / unit:.1f}".removesuffix(".0") + name


@register.filter
def hours(microseconds: int) -> str:
    """A time of machines in hours, with as many decimals as it needs."""
    value = int(microseconds) / MICROS_PER_HOUR
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


@register.filter
def gpu_hours(milliseconds: int | None) -> str:
    """A time of replicas in milliseconds, in hours."""
    return hours(int(milliseconds or 0) * 1000)


@register.filter
def gpu_hour(picousd_per_ms: int) -> SafeString:
    """A price of a millisecond as dollars per hour: as it was typed, with what is charged in its title."""
    whole, _, part = pico_to_usd_text(hour_price_plain(int(picousd_per_ms)), 12).partition(".")
    exact = usd_exact(int(picousd_per_ms) * HOUR_MS)
    return SafeString(
        f'<span title="{exact}">${whole}.{part.rstrip("0").ljust(2, "0")}</span>'
    )  # figures alone


@register.filter
def permille(part: int) -> str:
    """A part in thousandths, as percent."""
    return f"{'−' if part < 0 else ''}{abs(part) // 10:,}.{abs(part) % 10} %"


@register.filter
def size(number: int | None) -> str:
    """Bytes in the largest unit that leaves a number above one."""
    value, unit = float(number or 0), 0
    while value >= 1000 and unit < len(SIZE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return (
        f"{value:.0f} {SIZE_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {SIZE_UNITS[unit]}"
    )


@register.filter
def ago(moment: datetime | None) -> SafeString | str:
    """How long ago, or how soon; the exact moment in the title."""
    if moment is None:
        return "never"
    seconds = (now() - moment).total_seconds()
    distance = abs(seconds)
    text = f"{moment:%-d %b %Y}"
    for limit, unit, name in AGES:
        if distance < limit:
            text = f"{int(distance // unit)} {name}"
            text = "just now" if distance < 2 else f"{text} ago" if seconds > 0 else f"in {text}"
            break
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        moment.isoformat(),
        f"{moment:%Y-%m-%d %H:%M:%S}",
        text,
    )


@register.filter
def short_id(value: object) -> str:
    """The recognisable ends of a long id."""
    text = str(value)
    return text if len(text) <= 16 else f"{text[:8]}…{text[-4:]}"


@register.filter
def get(mapping: dict[str, object], key: str) -> object:
    """A value of a mapping by a key that is only known in the template."""
    return mapping.get(key)


@lru_cache(maxsize=64)
def _digest(path: str) -> str:
    found = finders.find(path)
    return hashlib.sha256(Path(str(found)).read_bytes()).hexdigest()[:10] if found else "missing"


@register.filter
def usd_movement(picousd: int) -> str:
    """A ledger row's amount with its sign, in as many decimals as it needs."""
    amount = int(picousd)
    return f"−{usd_cost(-amount)}" if amount < 0 else f"+{usd_cost(amount)}"


@register.simple_tag
def ttft(event: Any) -> str:
    """A request's time to its first token."""
    if event.first_token_at is None:
        return "—"
    return f"{(event.first_token_at - event.started_at).total_seconds() * 1000:,.0f} ms"


@register.simple_tag
def rate(event: Any) -> str:
    """A request's speed after its first token."""
    if event.first_token_at is None or event.completion_tokens < 2:
        return "—"
    writing_s = (event.finished_at - event.first_token_at).total_seconds()
    return f"{(event.completion_tokens - 1) / writing_s:,.1f} tok/s" if writing_s > 0 else "—"


@register.simple_tag
def ready_count(deployment: Any) -> int:
    """How many of a deployment's replicas answer."""
    return sum(replica.state == "ready" for replica in deployment.replicas.all())
