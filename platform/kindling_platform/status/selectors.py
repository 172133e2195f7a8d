"""Reads how the platform is and was, for the public page; nothing in it belongs to an organisation."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from kindling_platform.common.clock import now
from kindling_platform.common.errors import not_found
from kindling_platform.status.components import (
    CHECKS,
    CONSOLE,
    DOWN,
    FIXED,
    LIMITED,
    UNKNOWN,
    UP,
    model_key,
    worst_of,
)
from kindling_platform.status.models import ComponentDay, ComponentState, Notice
from kindling_platform.status.observing import served_deployments

DAYS = 90
# Samples come every half minute. When none has come for so long, what they said is no longer so.
STALE = timedelta(minutes=3)
SHOWN_NOTICES = 50
# What a notice says of the whole while it goes on; planned work says nothing.
SAID: dict[str, str] = {Notice.Severity.OUTAGE: DOWN, Notice.Severity.LIMITED: LIMITED}


@dataclass(frozen=True, slots=True)
class Day:
    """Minutes of a day (UTC) in which a component was found up, limited or down."""

    day: date
    up: int = 0
    limited: int = 0
    down: int = 0

    @property
    def minutes(self) -> int:
        """Those that anybody looked in."""
        return self.up + self.limited + self.down


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the platform: how it is now, since when, and how each of the last days was, oldest first."""

    key: str
    name: str
    about: str
    state: str
    since: datetime | None
    note: str
    days: tuple[Day, ...]

    @property
    def minutes(self) -> int:
        """In how many minutes of all days anybody looked."""
        return sum(day.minutes for day in self.days)

    @property
    def up_share(self) -> float | None:
        """The share of those in which it was up; None without any."""
        return sum(day.up for day in self.days) / self.minutes if self.minutes else None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything on the public page; `checked_at` is the newest sample."""

    components: tuple[Component, ...]
    notices: tuple[Notice, ...]
    moment: datetime
    checked_at: datetime | None

    @property
    def state(self) -> str:
        """One word for all of it: what was looked at, and what the operator says of now."""
        said = [SAID[one.severity] for one in self.active if one.severity in SAID]
        return worst_of([*said, *(one.state for one in self.components)])

    @property
    def active(self) -> list[Notice]:
        """Notices of what goes on now."""
        return [one for one in self.notices if is_active(one, self.moment)]

    @property
    def upcoming(self) -> list[Notice]:
        """Notices of what will be, the next first."""
        return [one for one in reversed(self.notices) if one.begins_at > self.moment]

    @property
    def past(self) -> list[Notice]:
        """Notices of what is over."""
        return [one for one in self.notices if one.ends_at is not None and one.ends_at <= self.moment]


def status_get() -> Status:
    """How everything is now, by the last samples, and was for as many days as are shown."""
    moment = now()
    states = {row.key: row for row in ComponentState.objects.all()}
    first = moment.date() - timedelta(days=DAYS - 1)
    days: defaultdict[str, dict[date, Day]] = defaultdict(dict)
    for row in ComponentDay.objects.filter(day__gte=first):
        days[row.key][row.day] = Day(row.day, row.up, row.limited, row.down)
    dates = [first + timedelta(days=number) for number in range(DAYS)]

    def component(key: str, name: str, about: str) -> Component:
        history = tuple(days[key].get(day) or Day(day) for day in dates)
        return Component(key, name, about, *_present(key, states, moment), history)

    fixed = [component(key, *words) for key, words in FIXED.items()]
    models = [component(model_key(model.id), model.ref, model.display_name) for model in _served_models()]
    checked_at = max((row.checked_at for row in states.values()), default=None)
    return Status(
        (*fixed, *models), tuple(notice_list(since=moment - timedelta(days=DAYS))), moment, checked_at
    )


def notice_list(*, since: datetime | None = None) -> "QuerySet[Notice]":
    """Notices that are shown, the latest to begin first; those that ended before `since` left out."""
    rows = Notice.objects.filter(withdrawn_at=None).prefetch_related("updates")
    if since is not None:
        rows = rows.filter(Q(ends_at=None) | Q(ends_at__gte=since))
    return rows.order_by("-begins_at", "-id")[:SHOWN_NOTICES]


def notice_list_all() -> "QuerySet[Notice]":
    """Every notice that is kept, withdrawn ones too; for the operator."""
    return Notice.objects.order_by("-begins_at", "-id")[:SHOWN_NOTICES]


def notice_list_active() -> list[Notice]:
    """Notices of what goes on now, for a banner."""
    moment = now()
    rows = Notice.objects.filter(withdrawn_at=None, begins_at__lte=moment)
    return list(rows.filter(Q(ends_at=None) | Q(ends_at__gt=moment)).order_by("-begins_at", "-id")[:3])


def notice_get(*, notice_id: str) -> Notice:
    """A notice by id, for the operator.

    Raises:
        KindlingError: `not_found`.
    """
    found = Notice.objects.prefetch_related("updates").filter(id=notice_id).first()
    if found is None:
        raise not_found("notice")
    return found


def is_active(notice: Notice, moment: datetime) -> bool:
    """Whether it goes on at a moment."""
    return (
        notice.withdrawn_at is None
        and notice.begins_at <= moment
        and (notice.ends_at is None or notice.ends_at > moment)
    )


def updates_of(notice: Notice) -> list[Any]:
    """What was added to a notice, the newest first; reads what was fetched with it."""
    return sorted(notice.updates.all(), key=lambda one: (one.created_at, one.id), reverse=True)


def _present(
    key: str, states: dict[str, ComponentState], moment: datetime
) -> tuple[str, datetime | None, str]:
    """State, since when, and what is said about it."""
    row = states.get(key)
    newest = max((one.checked_at for one in states.values()), default=None)
    if row is not None and newest is not None and abs(moment - row.checked_at) <= STALE:
        return row.state, row.since, row.note
    if key == CONSOLE:
        # This page is one of the console's.
        return UP, None, "It answers you now."
    if key == CHECKS and newest is not None and abs(moment - newest) > STALE:
        return DOWN, newest, f"The workers have not been heard of since {newest:%Y-%m-%d %H:%M} UTC."
    return UNKNOWN, None, "Nobody has looked at it lately."


def _served_models() -> Iterable[Any]:
    """The models behind what the operator runs for everybody, by name."""
    rows = served_deployments().prefetch_related(None)
    return sorted({row.model_id: row.model for row in rows}.values(), key=lambda model: str(model.ref))
