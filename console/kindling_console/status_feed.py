"""What the status page says, for programs: JSON, and the notices as an Atom feed."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.feedgenerator import Atom1Feed

from kindling_platform.status.selectors import Component, Status, is_active, updates_of

PAGE = "/status"


def page_url() -> str:
    """The page's address as others see it."""
    return f"{settings.KINDLING_ENV.public_url}{PAGE}"


def status_json(status: Status) -> dict[str, Any]:
    """Everything on the page; moments in UTC, days without a sample left out."""
    return {
        "status": status.state,
        "at": _text(status.moment),
        "checked_at": _text(status.checked_at),
        "components": [_component(one) for one in status.components],
        "notices": [_notice(one, status.moment) for one in status.notices],
    }


def notices_feed(status: Status) -> str:
    """The notices as Atom, the latest to begin first; an entry changes when something is added to its notice."""
    feed = Atom1Feed(
        title=f"{settings.SITE_NAME} status",
        link=page_url(),
        feed_url=f"{page_url()}.atom",
        description="Incidents and planned work.",
        author_name=settings.SITE_NAME,
    )
    for notice in status.notices:
        lines = [f"{one.created_at:%Y-%m-%d %H:%M} UTC: {one.text}" for one in updates_of(notice)]
        feed.add_item(
            title=f"{notice.get_severity_display()}: {notice.title}",
            link=f"{page_url()}#{notice.id}",
            unique_id=f"{page_url()}#{notice.id}",
            description="\n\n".join([*lines, notice.text, _span(notice)]),
            pubdate=notice.created_at,
            updateddate=notice.updated_at,
        )
    return feed.writeString("utf-8")


def _component(one: Component) -> dict[str, Any]:
    return {
        "id": one.key,
        "name": one.name,
        "about": one.about,
        "status": one.state,
        "since": _text(one.since),
        "note": one.note,
        "up_share": None if one.up_share is None else int(one.up_share * 1e6) / 1e6,
        "minutes": one.minutes,
        "days": [
            {"day": day.day.isoformat(), "up": day.up, "limited": day.limited, "down": day.down}
            for day in one.days
            if day.minutes
        ],
    }


def _notice(notice: Any, moment: datetime) -> dict[str, Any]:
    return {
        "id": notice.id,
        "url": f"{page_url()}#{notice.id}",
        "title": notice.title,
        "text": notice.text,
        "severity": notice.severity,
        "begins_at": _text(notice.begins_at),
        "ends_at": _text(notice.ends_at),
        "active": is_active(notice, moment),
        "updates": [{"at": _text(one.created_at), "text": one.text} for one in updates_of(notice)],
    }


def _span(notice: Any) -> str:
    end = f" to {notice.ends_at:%Y-%m-%d %H:%M} UTC" if notice.ends_at else " on"
    return f"From {notice.begins_at:%Y-%m-%d %H:%M} UTC{end}."


def _text(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
