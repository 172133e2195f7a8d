"""The operator's notices: written, added to, ended, withdrawn; each with an audit entry.

The audit log keeps the title and the times but no text: whoever withdraws a notice takes what it says away for good.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.status.fresh import status_changed
from kindling_platform.status.models import Notice, NoticeUpdate

TITLE_CHARS, TEXT_CHARS = 120, 2000
CONTROL = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SEVERITIES = Notice.Severity.choices


@dataclass(frozen=True, slots=True)
class Written:
    """What a new notice says."""

    title: str
    text: str
    severity: str
    begins_at: datetime | None = None
    ends_at: datetime | None = None


@transaction.atomic
def notice_write(*, notice_id: str, written: Written, actor: Actor) -> tuple[Notice, bool]:
    """Publish a notice; gives it, and whether it is new: the same id again changes nothing.

    Raises:
        KindlingError: `notice_text_invalid`, `notice_severity_invalid`, `notice_times_invalid`.
    """
    title, text = _said(written.title, "title", TITLE_CHARS), _said(written.text, "text", TEXT_CHARS)
    if written.severity not in Notice.Severity.values:
        raise KindlingError("notice_severity_invalid", "Say what kind of notice it is.", param="severity")
    moment = now()
    begins_at = written.begins_at or moment
    _ends_after(begins_at, written.ends_at)
    notice, is_new = Notice.objects.get_or_create(
        id=notice_id,
        defaults={
            "title": title, "text": text, "severity": written.severity, "begins_at": begins_at,
            "ends_at": written.ends_at, "updated_at": moment,
        },
    )  # fmt: skip
    if is_new:
        _record(notice, "notice.written", actor)
    return notice, is_new


@transaction.atomic
def notice_update(*, notice_id: str, text: str, actor: Actor) -> Notice:
    """Add what became known since.

    Raises:
        KindlingError: `not_found`, `notice_text_invalid`, `notice_withdrawn`.
    """
    notice = _locked(notice_id)
    NoticeUpdate.objects.create(notice=notice, text=_said(text, "text", TEXT_CHARS))
    notice.updated_at = now()
    notice.save(update_fields=["updated_at"])
    _record(notice, "notice.updated", actor)
    return notice


@transaction.atomic
def notice_end(*, notice_id: str, text: str = "", actor: Actor) -> Notice:
    """End a notice now, with a last word if there is one; one that has ended stays as it is.

    Planned work that has not begun is called off by it: it begins and ends now.

    Raises:
        KindlingError: `not_found`, `notice_withdrawn`.
    """
    notice, moment = _locked(notice_id), now()
    if notice.ends_at is not None and notice.ends_at <= moment:
        return notice
    before = notice.ends_at
    if text.strip():
        NoticeUpdate.objects.create(notice=notice, text=_said(text, "text", TEXT_CHARS))
    notice.begins_at = min(notice.begins_at, moment)
    notice.ends_at = notice.updated_at = moment
    notice.save(update_fields=["begins_at", "ends_at", "updated_at"])
    _record(notice, "notice.ended", actor, before=before)
    return notice


@transaction.atomic
def notice_withdraw(*, notice_id: str, actor: Actor) -> Notice:
    """Show a notice nowhere any more, and forget its words.

    Raises:
        KindlingError: `not_found`, `notice_withdrawn`.
    """
    notice, moment = _locked(notice_id), now()
    notice.updates.all().delete()
    notice.text = ""
    notice.withdrawn_at = notice.updated_at = moment
    notice.ends_at = min(notice.ends_at or moment, moment)
    notice.save(update_fields=["text", "withdrawn_at", "updated_at", "ends_at"])
    _record(notice, "notice.withdrawn", actor)
    return notice


def _said(text: str, param: str, most: int) -> str:
    # Feeds are XML, which has no word for control characters.
    said = CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if not said:
        raise KindlingError("notice_text_invalid", f"A notice needs a {param}.", param=param)
    if len(said) > most:
        raise KindlingError(
            "notice_text_invalid", f"The {param} has at most {most:,} characters.", param=param
        )
    return said


def _ends_after(begins_at: datetime, ends_at: datetime | None) -> None:
    if ends_at is not None and ends_at <= begins_at:
        text = "It has to end after it begins. Leave the end empty while nobody knows it."
        raise KindlingError("notice_times_invalid", text, param="ends_at")


def _locked(notice_id: str) -> Notice:
    found: Notice | None = Notice.objects.select_for_update().filter(id=notice_id).first()
    if found is None:
        raise not_found("notice")
    if found.withdrawn_at is not None:
        raise KindlingError("notice_withdrawn", "This notice was withdrawn. Write a new one.", 409)
    return found


def _record(notice: Notice, action: str, actor: Actor, *, before: datetime | None = None) -> None:
    status_changed()
    times = {"begins_at": notice.begins_at, "ends_at": notice.ends_at}
    data = {name: moment.isoformat() if moment else "" for name, moment in times.items()}
    if before is not None:
        data["was_to_end_at"] = before.isoformat()
    audit_record(
        actor=actor, action=action, target=notice.id,
        data={"title": notice.title, "severity": notice.severity, **data},
    )  # fmt: skip
