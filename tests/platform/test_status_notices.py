"""Notices: written once, added to, ended and withdrawn; each refusal is a sentence, each change is in the audit log."""

from datetime import timedelta

import pytest

from kindling_people import Customer
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import new_id
from kindling_platform.status.models import Notice, NoticeUpdate
from kindling_platform.status.samples import status_purge
from kindling_platform.status.selectors import notice_list_active, status_get
from kindling_platform.status.services import (
    Written,
    notice_end,
    notice_update,
    notice_withdraw,
    notice_write,
)

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def write(by: Customer, **changes: object) -> Notice:
    said = {"title": "Slow answers", "text": "We look into it.", "severity": "limited"} | changes
    return notice_write(notice_id=new_id("ntc"), written=Written(**said), actor=by.actor)[0]


def test_the_same_notice_twice_is_one(operator: Customer):
    notice_id = new_id("ntc")
    given = Written("Slow answers", "We look into it.", "limited")
    first, again = (notice_write(notice_id=notice_id, written=given, actor=operator.actor) for _ in range(2))
    assert (first[1], again[1], Notice.objects.count()) == (True, False, 1)
    assert AuditEvent.objects.filter(action="notice.written").count() == 1


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"title": "  "}, "notice_text_invalid", "title"),
        ({"text": "x" * 2001}, "notice_text_invalid", "text"),
        ({"severity": "dreadful"}, "notice_severity_invalid", "severity"),
        ({"ends_at": now() - HOUR}, "notice_times_invalid", "ends_at"),
    ],
)
def test_what_a_notice_may_not_say(operator: Customer, changes: dict, code: str, param: str):
    with pytest.raises(KindlingError) as refused:
        write(operator, **changes)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert not Notice.objects.exists()


def test_it_goes_on_until_it_ends(operator: Customer):
    notice = write(operator)
    planned = write(operator, title="New disks", severity="planned", begins_at=now() + HOUR)
    assert [one.id for one in notice_list_active()] == [notice.id]
    # Whatever was looked at, the page does not call everything well while the operator says otherwise.
    assert status_get().state == "limited"
    assert [one.id for one in status_get().upcoming] == [planned.id]
    notice_update(notice_id=notice.id, text="A disk is full.", actor=operator.actor)
    ended = notice_end(notice_id=notice.id, text="It is well again.", actor=operator.actor)
    assert notice_end(notice_id=notice.id, text="Twice.", actor=operator.actor).ends_at == ended.ends_at
    called_off = notice_end(notice_id=planned.id, actor=operator.actor)
    assert called_off.begins_at == called_off.ends_at
    status = status_get()
    assert (notice_list_active(), status.active, status.upcoming) == ([], [], [])
    assert {one.id for one in status.past} == {notice.id, planned.id}
    assert [one.text for one in NoticeUpdate.objects.order_by("id")] == [
        "A disk is full.",
        "It is well again.",
    ]


def test_what_is_withdrawn_is_gone_everywhere(operator: Customer):
    notice = write(operator, text="Customer Acme filled the disk.")
    notice_update(notice_id=notice.id, text="Acme again.", actor=operator.actor)
    notice_withdraw(notice_id=notice.id, actor=operator.actor)
    status = status_get()
    assert (notice_list_active(), status.notices) == ([], ())
    notice.refresh_from_db()
    assert (notice.text, notice.updates.count()) == ("", 0)
    said = " ".join(str(event.data) for event in AuditEvent.objects.all())
    assert "Acme" not in said and "Slow answers" in said
    for change in (notice_end, notice_withdraw):
        with pytest.raises(KindlingError, match="withdrawn"):
            change(notice_id=notice.id, actor=operator.actor)
    with pytest.raises(KindlingError) as missing:
        notice_update(notice_id="ntc_none", text="x", actor=operator.actor)
    assert missing.value.status == 404


def test_a_notice_is_kept_for_a_year_behind_its_end(operator: Customer):
    old, open_one = write(operator), write(operator)
    long_ago = now() - timedelta(days=400)
    Notice.objects.filter(id=old.id).update(begins_at=long_ago, ends_at=long_ago + HOUR)
    Notice.objects.filter(id=open_one.id).update(begins_at=long_ago)
    assert status_purge() == 1
    assert [one.id for one in Notice.objects.all()] == [open_one.id]
