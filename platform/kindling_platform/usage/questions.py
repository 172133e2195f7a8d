"""What may be asked of usage, as the API and the console read it from an address: span, time zone, rows, filters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from kindling_platform.accounts.models import Organisation
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.selectors import key_ids_of
from kindling_platform.usage.buckets import bucket_starts, local_midnight, span_before, zone_get
from kindling_platform.usage.names import OUTCOMES, ids_of
from kindling_platform.usage.pieces import Scope
from kindling_platform.usage.reports import (
    COLUMNS,
    UsageSum,
    group_list,
    series_and_groups,
    series_list,
    total_get,
)
from kindling_platform.usage.steps import step_ceil, step_floor

DAYS = 30
MAX_SPAN = timedelta(days=400)
MAX_VALUES = 50
ZONE = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Question:
    """A span in a time zone, how its rows are cut (`interval`, `by`; "" is not at all), and what alone is counted."""

    org: Organisation
    start: datetime
    end: datetime
    zone: ZoneInfo = ZONE
    interval: str = ""
    by: str = ""
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(self.org, self.start, self.end, self.only)

    @property
    def starts(self) -> tuple[datetime, ...]:
        """The beginnings of its buckets, empty ones included; none without an interval."""
        if not self.interval:
            return ()
        return bucket_starts(self.start, self.end, interval=self.interval, zone=self.zone)

    @property
    def before(self) -> "Question":
        """The same about the span before."""
        start, end = span_before(self.start, self.end, self.zone)
        return replace(self, start=start, end=end)

    def total(self) -> UsageSum:
        """Everything as one."""
        return total_get(self.scope)

    def rows(self) -> list[UsageSum]:
        """The rows that it asks for; they sum to its total."""
        if self.interval:
            return series_list(self.scope, self.starts, self.by)
        return group_list(self.scope, self.by) if self.by else [self.total()]

    def rows_and_groups(self, by: str) -> tuple[list[UsageSum], list[UsageSum]]:
        """Its buckets, not grouped, and all of it by something."""
        return series_and_groups(self.scope, self.starts, by)


def question_of(org: Organisation, asked: Mapping[str, str], *, exact: bool = False) -> Question:
    """A question from the parameters of an address.

    Roll-ups answer for whole steps: a bound that is none is refused, but for an end in the step that runs, and unless
    it is `exact` for single requests.

    Raises:
        KindlingError: `time_zone_unknown`, `time_invalid`, `span_invalid`, `filter_invalid`, `group_unknown`,
            `interval_unknown`, `span_too_long`, `time_zone_unsupported`.
    """
    zone = zone_get(asked.get("tz") or "UTC")
    start, end = span_of(asked, zone)
    by = asked.get("group_by", "")
    if by and by not in COLUMNS:
        raise KindlingError(
            "group_unknown", f"group_by must be one of {', '.join(COLUMNS)}.", param="group_by"
        )
    if not exact:
        if asked.get("from") and step_floor(start) != start:
            raise _no_step("from")
        # Up to now, by whosever clock, is up to the end of the step that runs.
        if asked.get("to") and step_floor(end) != end and step_ceil(end) <= now():
            raise _no_step("to")
        start, end = step_floor(start), step_ceil(end)
    question = Question(org, start, end, zone, asked.get("interval", ""), by, only_of(org, asked))
    _ = question.starts  # refused here, and not when it is answered
    return question


def _no_step(name: str) -> KindlingError:
    text = (
        f"{name} must be the beginning of an hour, which sums are kept for, or of a day in any time zone; lists of "
        "single requests take any moment."
    )
    return KindlingError("span_invalid", text, param=name)


def span_of(asked: Mapping[str, str], zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The span that is asked for, in UTC; a time without an offset is the zone's.

    Raises:
        KindlingError: `time_invalid`, `span_invalid`.
    """
    end = _moment(asked, "to", zone) or now()
    start = _moment(asked, "from", zone)
    if start is None:
        start = local_midnight((end.astimezone(zone) - timedelta(days=DAYS - 1)).date(), zone)
    if not timedelta(0) < end - start <= MAX_SPAN:
        text = f"The end must lie behind the start, and at most {MAX_SPAN.days} days behind it."
        raise KindlingError("span_invalid", text, param="to")
    return start, end


def only_of(org: Organisation, asked: Mapping[str, str]) -> dict[str, list[str]]:
    """The values that alone are counted, by column; commas part several.

    Raises:
        KindlingError: `filter_invalid`.
    """
    only: dict[str, list[str]] = {}
    for by, column in COLUMNS.items():
        text = asked.get(by, "")
        if not text:
            continue
        texts = text.split(",")
        if len(texts) > MAX_VALUES or "\0" in text:
            raise KindlingError("filter_invalid", f"{by} takes up to {MAX_VALUES} names or ids.", param=by)
        if by == "status" and not OUTCOMES.keys() >= set(texts):
            choices = ", ".join(OUTCOMES)
            raise KindlingError("filter_invalid", f"status must be one or several of {choices}.", param=by)
        ids = ids_of(org=org, by=by, texts=texts)
        if by == "member":
            keys = set(key_ids_of(org=org, member_ids=ids))
            ids = sorted(keys & set(only[column]) if column in only else keys)
        only[column] = ids
    return only


def _moment(asked: Mapping[str, str], name: str, zone: ZoneInfo) -> datetime | None:
    text = asked.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # Seen from other zones, the first and the last year have no neighbours.
        if not 1970 <= moment.year <= 9000:
            raise ValueError("out of range")
    except ValueError as error:
        text = f"{name} must be a date or a time in ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z."
        raise KindlingError("time_invalid", text, param=name) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
