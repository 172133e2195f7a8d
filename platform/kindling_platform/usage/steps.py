"""The steps that roll-ups count in: an hour of UTC, cut once more where a day begins somewhere off the full hour.

So every day of every time zone is a whole number of steps, and no chart needs the single requests.
"""

from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
# UTC's hours in which a day begins somewhere, by the minute: Newfoundland, the Marquesas, Chatham (two), Lord Howe,
# Adelaide and its summer time, Eucla, Myanmar, Nepal, India, Afghanistan, Iran.
CUTS: dict[int, tuple[int, ...]] = {
    2: (30,), 3: (30,), 9: (30,), 10: (15,), 11: (15,), 13: (30,), 14: (30,), 15: (15,), 17: (30,), 18: (15, 30),
    19: (30,), 20: (30,),
}  # fmt: skip
# The same for Postgres; `{moment}` is a timestamp with time zone.
STEP_SQL = """date_trunc('hour', {moment}, 'UTC') + make_interval(mins => CASE
    WHEN extract(hour FROM {moment} AT TIME ZONE 'UTC') IN (2, 3, 9, 13, 14, 17, 18, 19, 20)
        AND extract(minute FROM {moment}) >= 30 THEN 30
    WHEN extract(hour FROM {moment} AT TIME ZONE 'UTC') IN (10, 11, 15, 18)
        AND extract(minute FROM {moment}) >= 15 THEN 15
    ELSE 0 END)"""


def step_floor(moment: datetime) -> datetime:
    """The beginning of the step that a moment (in UTC) lies in."""
    minute = max((cut for cut in CUTS.get(moment.hour, ()) if cut <= moment.minute), default=0)
    return moment.replace(minute=minute, second=0, microsecond=0)


def step_ceil(moment: datetime) -> datetime:
    """The same moment if a step begins then, else the beginning of the next one."""
    floor = step_floor(moment)
    if floor == moment:
        return moment
    hour = moment.replace(minute=0, second=0, microsecond=0)
    later = [hour + timedelta(minutes=cut) for cut in CUTS.get(moment.hour, ())]
    return next((cut for cut in later if cut > moment), hour + HOUR)


def day_floor(moment: datetime) -> datetime:
    """Midnight UTC of a moment's day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def day_ceil(moment: datetime) -> datetime:
    """The same moment if it is midnight UTC, else the next midnight."""
    floor = day_floor(moment)
    return floor if floor == moment else floor + timedelta(days=1)


def month_floor(moment: datetime) -> datetime:
    """Midnight UTC of the first of a moment's month."""
    return day_floor(moment).replace(day=1)
