"""Adapters: the list that follows, the report, deleting by name."""

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.adapters.models import Adapter

FAILED = {
    "findings": [
        {"check": "files", "level": "pass", "message": "Both files are there.", "fix": ""},
        {"check": "rank", "level": "fail", "message": "The rank is 512.", "fix": "Train with r at most 64."},
    ]
}


def test_the_list_asks_again_only_while_something_moves(world: World, member: Member):
    world.adapter(member)
    url = reverse("console:adapters")
    assert "every 2s" not in member.client.get(url).content.decode()
    world.adapter(member, name="new", state="validating")
    part = member.client.get(url, headers={"HX-Request": "true"})
    html = part.content.decode()
    assert "every 2s" in html
    assert "<html" not in html
    assert part["Vary"].startswith("HX-Request")


def test_a_failed_report_names_reason_and_fix_with_the_worst_first(world: World, member: Member):
    adapter = world.adapter(
        member, state="rejected", report=FAILED, error_code="rank", error="The rank is 512."
    )
    html = member.client.get(reverse("console:adapter", args=[adapter.id])).content.decode()
    assert "Train with r at most 64." in html
    assert html.index("<h3>The rank is 512.</h3>") < html.index("<h3>Both files are there.</h3>")
    assert "1 failed" in html
    assert "Quickstart" not in html


def test_a_ready_adapter_shows_how_to_call_it(world: World, member: Member):
    adapter = world.adapter(member)
    html = member.client.get(reverse("console:adapter", args=[adapter.id])).content.decode()
    assert html.count(f"{member.org.slug}/intent") >= 4
    assert "Save them as float32." in html
    assert "YOUR_API_KEY" in html
    assert "every 1s" not in html


@pytest.mark.parametrize("state", ["uploading", "validating"])
def test_the_report_follows_while_an_adapter_moves(world: World, member: Member, state: str):
    adapter = world.adapter(member, state=state, report={})
    url = reverse("console:adapter-report", args=[adapter.id])
    assert "every 1s" in member.client.get(url).content.decode()
    Adapter.objects.filter(id=adapter.id).update(state="ready")
    html = member.client.get(url).content.decode()
    assert "every 1s" not in html
    assert "Ready to call" in html


def test_deleting_needs_the_name(world: World, member: Member):
    adapter = world.adapter(member)
    url = reverse("console:adapter-delete", args=[adapter.id])
    wrong = member.client.post(url, {"name": "intend"})
    assert wrong.status_code == 422
    assert "not the adapter&#x27;s name" in wrong.content.decode().replace("'", "&#x27;")
    adapter.refresh_from_db()
    assert adapter.state == "ready"

    right = member.client.post(url, {"name": "intent"})
    assert (right.status_code, right["Location"]) == (303, reverse("console:adapters"))
    adapter.refresh_from_db()
    assert adapter.state == "deleted"
