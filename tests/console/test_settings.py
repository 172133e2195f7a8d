"""Settings: the organisation's name, for those who may change it."""

import pytest

from kindling_console_world import Member
from kindling_platform.audit.models import AuditEvent

URL = "/console/settings/"


def rename(member: Member, name: str):
    return member.client.post(URL, {"do": "name", "name": name})


def test_the_name_is_changed_and_the_slug_stays(member: Member):
    slug = member.org.slug
    assert rename(member, "  Łódź\u00a0 Works ").status_code == 303
    member.org.refresh_from_db()
    assert (member.org.name, member.org.slug) == ("Łódź Works", slug)
    assert "Łódź Works" in member.client.get("/console/").content.decode()
    event = AuditEvent.objects.get(action="organisation.renamed")
    assert event.data["after"] == {"name": "Łódź Works"} and event.actor_label == member.user.email
    assert "Organisation renamed" in member.client.get(f"{URL}activity/").content.decode()
    assert rename(member, "Łódź Works").status_code == 303
    assert AuditEvent.objects.filter(action="organisation.renamed").count() == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "a\u202eb"])
def test_what_is_no_name_is_refused_beside_its_field(member: Member, name: str):
    reply = rename(member, name)
    html = reply.content.decode()
    assert reply.status_code == 422 and 'id="id_org_name_error"' in html
    before = member.org.name
    member.org.refresh_from_db()
    assert member.org.name == before


@pytest.mark.parametrize(("role", "status"), [("admin", 303), ("developer", 403), ("viewer", 403)])
def test_owners_and_admins_may(member: Member, role: str, status: int):
    member.role(role)
    assert ("Change the name" in member.client.get(URL).content.decode()) == (status == 303)
    assert rename(member, "Other").status_code == status
