"""Spans of time that usage is shown for; always in UTC, always in the URL."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kindling_platform.common.clock import now

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A named span: its key in the URL, its label, its length and the step of its chart."""

    key: str
    label: str
    length: timedelta
    step: str

    def bounds(self) -> tuple[datetime, datetime]:
        """First moment and end; whole hours for a day, whole days for longer."""
        end = now()
        if self.step == "hour":
            return (end - self.length + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0), end
        return (end - self.length + DAY).replace(hour=0, minute=0, second=0, microsecond=0), end

    def steps(self) -> list[datetime]:
        """Every bar's moment, empty ones included."""
        start, end = self.bounds()
        width = timedelta(hours=1) if self.step == "hour" else DAY
        moments = []
        while start <= end:
            moments.append(start)
            start += width
        return moments


SPANS = (
    Span("24h", "24 hours", DAY, "hour"),
    Span("7d", "7 days", 7 * DAY, "day"),
    Span("30d", "30 days", 30 * DAY, "day"),
    Span("90d", "90 days", 90 * DAY, "day"),
)


def today_start() -> datetime:
    """Midnight UTC of today."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)


def month_start() -> datetime:
    """Midnight UTC of the first of this month."""
    return today_start().replace(day=1)
