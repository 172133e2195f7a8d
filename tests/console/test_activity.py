"""What owners and admins read of their organisation's audit log, and what they never do."""

import csv
import io
import re
from pathlib import Path

import pytest
from django.urls import reverse

import kindling_billing
import kindling_platform
from kindling_console.activity_words import KIND_LABELS, WORDS
from kindling_console_world import Member, World, request_keep
from kindling_platform.accounts.credit import credit_give
from kindling_platform.accounts.models import Membership
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import PROVIDER_LABEL, Actor
from kindling_platform.keys.activity import KINDS, activity_page
from kindling_platform.keys.limits import limits_set
from kindling_platform.requestlog.services import request_log_set

USD = 10**12
URL = "/console/settings/activity/"
OF_NO_ORGANISATION = {"plan.created", "user.deleted", "user.renamed", "user.shortcuts_set"}


def html_of(member: Member, **query: str) -> str:
    reply = member.client.get(URL, query)
    assert reply.status_code == 200
    return reply.content.decode()


def csv_of(member: Member, **query: str) -> list[dict[str, str]]:
    reply = member.client.get(reverse("console:activity-csv"), query)
    assert reply.status_code == 200 and reply["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(b"".join(reply).decode())))


def test_it_says_who_did_what_newest_first(member: Member):
    for dollars in (7, 9):
        limits_set(org=member.org, values={"budget_month_picousd": dollars * USD}, actor=member.actor)
    member.key("laptop")
    html = html_of(member)
    assert "<del>$7.00</del> → <ins>$9.00</ins>" in html and member.user.email in html
    assert html.index("API key created") < html.index("Limits changed") < html.index("Organisation created")
    assert html_of(member, cursor="nonsense").count("<tr>") == html.count("<tr>")


def test_each_kind_shows_its_own(member: Member):
    key = member.key("laptop")
    request_log_set(org=member.org, days=7, actor=member.actor)
    kept = request_keep(member)
    member.client.get(reverse("console:logged-request", args=[kept.request_id]))
    member.client.post("/console/billing/limit/", {"limit": "7"})
    for kind, expected in [
        ("keys", {"key.created"}), ("prompts", {"request_log.set", "request_log.read"}), ("limits", {"limits.set"}),
        ("members", {"organisation.created", "user.registered"}), ("adapters", set()), ("deployments", set()),
    ]:  # fmt: skip
        assert {row["action"] for row in csv_of(member, kind=kind)} == expected, kind
        assert ("No event of this kind" in html_of(member, kind=kind)) == (not expected)
    assert len(csv_of(member)) == len(csv_of(member, kind="no such kind")) >= 6
    (made,) = csv_of(member, kind="keys")
    assert (made["who"], made["target"]) == (member.user.email, key.id)
    assert made["details"] == "kind: user; name: laptop; scopes: inference"


def test_pages_and_the_csv_hold_every_event_once(member: Member, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_console.pages.activity.BLOCK", 20)
    for number in range(60):
        audit_record(
            actor=member.actor, action="alias.set", target=f"als_{number}", organisation_id=member.org.id
        )
    expected = [f"als_{number}" for number in reversed(range(60))]
    assert [row["target"] for row in csv_of(member, kind="adapters")] == expected
    first = html_of(member, kind="adapters")
    following = re.search(r'rel="next" href="\?kind=adapters&amp;cursor=([\w-]+)"', first)
    assert following
    second = html_of(member, kind="adapters", cursor=following[1])
    assert re.findall(r'title="(als_\d+)"', first + second) == expected
    assert 'rel="next"' not in second


def test_nothing_of_another_organisation_is_in_it(world: World, member: Member):
    other = world.member("grace")
    key = other.key("secret-key")
    limits_set(org=other.org, values={"budget_month_picousd": 1234 * USD}, actor=other.actor)
    for kind in KIND_LABELS:
        for text in (html_of(member, kind=kind), str(csv_of(member, kind=kind))):
            for hidden in (other.org.id, other.org.slug, other.user.email, key.id, "secret-key", "1234"):
                assert hidden not in text, (kind, hidden)
    assert "secret-key" in html_of(other)


def test_the_operator_is_neither_named_nor_quoted(world: World, member: Member):
    operator = Actor(id=world.operator.user.id, label=world.operator.user.email, ip="203.0.113.9")
    credit_give(org=member.org, amount_picousd=3 * USD, source_id="gift", memo="Sorry", actor=operator)
    organisation_suspend(org=member.org, reason="Stolen card, says the bank", actor=operator)
    audit_record(
        actor=operator, action="difference.accepted", target="ch_1", organisation_id=member.org.id,
        data={"note": "their books are a mess"},
    )  # fmt: skip
    audit_record(
        actor=operator, action="refund.given", target=member.org.id, organisation_id=member.org.id,
        data={"payment": "pay_1", "cents": "500", "reason": "They whine"},
    )  # fmt: skip
    html, rows = html_of(member), csv_of(member)
    for hidden in (world.operator.user.email, "203.0.113.9", "Stolen", "difference", "a mess", "whine"):
        assert hidden not in html + str(rows), hidden
    told = {row["action"]: row for row in rows if row["who"] == "Operator"}
    assert set(told) == {"credit.granted", "organisation.suspended", "refund.given"}
    assert told["refund.given"]["details"] == "cents: 500; payment: pay_1"
    assert "usd: 3" in told["credit.granted"]["details"]
    assert told["organisation.suspended"]["details"] == ""


def test_who_it_was_is_told_of_members_keys_and_machines_alone(world: World, member: Member):
    key, gone = member.key("ci"), world.member("gone")
    Membership.objects.filter(user=gone.user).delete()
    actors = [
        (Actor(id=key.id, label="key ci", ip="192.0.2.1"), ("key ci", "192.0.2.1")),
        (Actor(id="", label="system", ip="192.0.2.2"), ("Platform", "")),
        (Actor(id="", label=PROVIDER_LABEL, ip="192.0.2.3"), ("Payment provider", "")),
        (gone.actor, ("Former member", "")),
    ]
    for actor, _ in actors:
        audit_record(actor=actor, action="alias.set", target="als_1", organisation_id=member.org.id)
    seen = [(row.who, row.ip) for row in activity_page(org=member.org, kind="adapters").rows]
    assert seen == [expected for _, expected in reversed(actors)]


@pytest.mark.parametrize("role", ["owner", "admin", "developer", "viewer", "billing"])
def test_owners_and_admins_read_it(member: Member, role: str):
    member.role(role)
    expected = 200 if role in {"owner", "admin"} else 403
    for name in ("activity", "activity-csv"):
        assert member.client.get(reverse(f"console:{name}")).status_code == expected, name
    if role != "billing":
        is_linked = f'href="{URL}"' in member.client.get("/console/settings/").content.decode()
        assert is_linked == (expected == 200)


def test_every_action_of_a_kind_has_words():
    folders = [Path(str(package.__file__)).parent for package in (kindling_platform, kindling_billing)]
    sources = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    nouns = "|".join(noun for of_kind in KINDS.values() for noun in of_kind)
    written = set(re.findall(rf'action="((?:{nouns})\.[a-z_]+)"', sources))
    assert len(written) > 35
    assert written - OF_NO_ORGANISATION <= set(WORDS)
    assert set(KIND_LABELS) == {"", *KINDS}
