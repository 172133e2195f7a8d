"""Whether this machine's clock can be trusted with deadlines: months that end, credit that expires, reminders."""

from datetime import timedelta

from django.db import connection

from kindling_billing.models import utc_now

MOST_APART = timedelta(minutes=5)


def clocks_apart() -> timedelta:
    """How far this machine's clock is from the database's; above zero when ours is ahead."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    return utc_now() - row[0] if row else timedelta(0)


def clocks_agree() -> bool:
    """Whether the two are within five minutes of each other; deadlines wait while they are not."""
    return abs(clocks_apart()) <= MOST_APART
