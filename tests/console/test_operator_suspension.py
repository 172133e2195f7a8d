"""The operator suspends an organisation and lifts it: requests stop, the console stays, the audit log says why."""

import pytest
from django.db import connection
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.services import key_create

WHY = "Their card was reported stolen."


@pytest.fixture
def url(member: Member) -> str:
    return reverse("console:operator-suspension", args=[member.org.id])


def suspended_for(org: Organisation) -> set[str]:
    """What every gateway reads of an organisation's keys."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT suspended_for FROM gateway_key WHERE org_id = %s", [org.id])
        return {reason for (reason,) in cursor.fetchall()}


def test_requests_stop_and_the_console_stays(world: World, member: Member, url: str):
    key_create(org=member.org, name="ci", scopes=["inference"], actor=SYSTEM)
    assert suspended_for(member.org) == {""}
    assert world.operator.client.post(url, {"do": "suspend", "reason": WHY}).status_code == 303
    assert suspended_for(member.org) == {"operator"}
    seen = member.client.get("/console/usage/")
    assert (seen.status_code, "Your organisation is suspended." in seen.content.decode()) == (200, True)
    assert WHY not in seen.content.decode()
    html = world.operator.client.get(
        reverse("console:operator-organisation", args=[member.org.id])
    ).content.decode()
    assert "Let it go on" in html
    # Who opens the page reads it before anything else.
    assert html.index(WHY) < html.index("Balance</p>")
    assert f"by {world.operator.user.email}." in html[: html.index(WHY)]
    assert world.operator.client.post(url, {"do": "resume", "reason": "All is well."}).status_code == 303
    assert suspended_for(member.org) == {""}


def test_both_are_in_the_audit_log_once(world: World, member: Member, url: str):
    for do in ("suspend", "suspend", "resume", "resume"):
        world.operator.client.post(url, {"do": do, "reason": WHY})
    actions = ("organisation.suspended", "organisation.resumed")
    rows = AuditEvent.objects.filter(target=member.org.id, action__in=actions)
    told = [(row.action, row.data["reason"], row.data["after"]["state"]) for row in rows]
    assert sorted(told) == [
        ("organisation.resumed", WHY, "active"), ("organisation.suspended", WHY, "suspended"),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["", "   "])
def test_nobody_is_suspended_without_a_reason(world: World, member: Member, url: str, reason: str):
    reply = world.operator.client.post(url, {"do": "suspend", "reason": reason}, follow=True)
    assert "Say why" in reply.content.decode()
    assert Organisation.objects.get(id=member.org.id).suspended_at is None


def test_the_operators_own_organisation_goes_on(world: World):
    with pytest.raises(KindlingError) as refused:
        organisation_suspend(org=world.operator.org, reason=WHY, actor=SYSTEM)
    assert refused.value.code == "operator_organisation"
    assert Organisation.objects.get(id=world.operator.org.id).suspended_at is None


def test_members_suspend_nobody(member: Member, url: str):
    assert member.client.post(url, {"do": "suspend", "reason": WHY}).status_code == 403
    assert Organisation.objects.get(id=member.org.id).suspended_at is None


def test_members_look_and_change_nothing_meanwhile(world: World, member: Member, url: str):
    key = member.key()
    forms = {
        "/console/keys/": {"name": "new", "scopes": ["inference"]},
        f"/console/keys/{key.id}/revoke/": {},
        "/console/settings/": {"days": "7"},
        "/console/billing/limit/": {"limit": "7"},
    }
    before = AuditEvent.objects.filter(actor_id=member.user.id).count()
    world.operator.client.post(url, {"do": "suspend", "reason": WHY})
    for path, form in forms.items():
        reply = member.client.post(path, form)
        assert reply.status_code == 403, path
        assert "Your organisation is suspended" in reply.content.decode(), path
    assert AuditEvent.objects.filter(actor_id=member.user.id).count() == before
    for path in ("/console/keys/", "/console/settings/", "/console/billing/"):
        assert member.client.get(path).status_code == 200, path
    world.operator.client.post(url, {"do": "resume", "reason": "All is well."})
    for path, form in forms.items():
        assert member.client.post(path, form).status_code in {200, 303}, path
    assert AuditEvent.objects.filter(actor_id=member.user.id).count() > before
