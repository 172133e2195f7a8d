"""The one place that reads the wall clock, so that tests can hold it still."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)
