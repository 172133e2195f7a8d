"""Adapters from the hub on the console: the upload page's second form, and how the download is followed."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.adapters.models import Adapter, AdapterFile, HubFetch
from kindling_platform.common.clock import now

URL = "/console/adapters/upload/hub/"
ASKED = {"hub_id": "acme/support-lora", "name": "support", "base_model": "kindling/spark"}


def hub_adapter(world: World, member: Member, state: str = "uploading", **fields: object) -> Adapter:
    adapter = world.adapter(member, name="support", state=state, report={}, **fields)
    HubFetch.objects.create(adapter=adapter, repo_id="acme/support-lora", revision="v1", commit="c" * 40)
    return adapter


def test_the_form_leads_to_the_page_that_follows_the_download(world: World, member: Member):
    reply = member.client.post(URL, ASKED | {"revision": "v1", "hub_token": "hf_private"})
    adapter = Adapter.objects.get(organisation=member.org)
    assert (reply.status_code, reply["Location"]) == (303, f"/console/adapters/{adapter.id}/")
    assert (adapter.state, adapter.hub.repo_id, adapter.hub.revision) == (
        "uploading",
        "acme/support-lora",
        "v1",
    )
    html = member.client.get(reply["Location"]).content.decode()
    assert "Being fetched from the hub" in html and "Waiting for a worker." in html
    assert "acme/support-lora" in html and "Resume upload" not in html
    assert "every 1s" in html and "hf_private" not in html


def test_what_has_arrived_is_shown(world: World, member: Member):
    adapter = hub_adapter(world, member, size_bytes=4000, reason="")
    AdapterFile.objects.create(
        adapter=adapter, name="adapter_config.json", size_bytes=1000, received_bytes=1000
    )
    AdapterFile.objects.create(
        adapter=adapter, name="adapter_model.safetensors", size_bytes=3000, received_bytes=500
    )
    html = member.client.get(reverse("console:adapter-report", args=[adapter.id])).content.decode()
    assert re.search(r'<progress max="4000" value="1500" aria-label="Fetched">', html)
    assert "The files are on their way." in html and "cccccccccccc" in html


def test_an_installation_without_network_says_so_in_words(world: World, member: Member):
    text = "The Hugging Face hub could not be reached from this installation: ConnectError."
    adapter = hub_adapter(world, member, reason=f"{text} It is tried again in 5 seconds.")
    html = member.client.get(reverse("console:adapter", args=[adapter.id])).content.decode()
    assert f"{text} It is tried again" in html
    assert text[:60] in member.client.get(reverse("console:adapters")).content.decode()


def test_one_that_failed_links_its_code_and_can_be_tried_again(world: World, member: Member):
    adapter = hub_adapter(
        world, member, "rejected", error_code="hub_not_found", error="The hub has no such one."
    )
    html = member.client.get(reverse("console:adapter", args=[adapter.id])).content.decode()
    assert 'errors/#hub_not_found"><code>hub_not_found</code></a>' in html
    again = re.search(r'href="([^"]+)">Try again<', html)
    assert again and again[1].endswith("#from-hub")
    html = member.client.get(again[1].replace("&amp;", "&")).content.decode()
    form = html[html.index('id="from-hub"') :]
    assert 'name="hub_id"' in form and 'value="acme/support-lora"' in form and 'value="v1"' in form
    assert 'value="support"' in form
    assert member.client.post(URL, ASKED).status_code == 303
    adapter.refresh_from_db()
    assert adapter.state == "deleted"


def test_a_check_that_failed_has_no_entry_to_link(world: World, member: Member):
    adapter = world.adapter(member, state="rejected", error_code="rank", error="The rank is 0.")
    html = member.client.get(reverse("console:adapter", args=[adapter.id])).content.decode()
    assert "<code>rank</code>" in html and "errors/#rank" not in html


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"hub_id": ""}, "hub_id", "Name the repository."),
        ({"hub_id": "https://huggingface.co/acme/x"}, "hub_id", "is named owner/name"),
        ({"hub_id": "acme/../x"}, "hub_id", "is named owner/name"),
        ({"revision": "a b"}, "revision", "A revision is a branch"),
        ({"hub_token": "hf_x y"}, "hub_token", "no token of the hub"),
        ({"name": "Not A Name"}, "name", "lower-case letters"),
        ({"base_model": "kindling/none"}, "base_model", "not one of the available choices"),
    ],
)
def test_refusals_stand_at_their_field_and_the_form_is_kept(
    world: World, member: Member, changes: dict[str, str], field: str, sentence: str
):
    reply = member.client.post(URL, ASKED | {"hub_token": "hf_private"} | changes)
    html = reply.content.decode()
    assert reply.status_code == 422 and sentence in html
    assert f'id="id_hub_{field}_error"' in html
    assert len(re.findall(r"<[a-z]+[^>]* autofocus[^>]*>", html)) == 1
    assert "hf_private" not in html and "hf_x y" not in html
    assert not Adapter.objects.exists()
    if field != "hub_id":
        assert 'value="acme/support-lora"' in html


def test_what_speaks_against_the_whole_is_said_above_the_form(world: World, member: Member, monkeypatch):
    monkeypatch.setattr("kindling_platform.adapters.services.MAX_UPLOADS_AT_ONCE", 0)
    reply = member.client.post(URL, ASKED)
    form = reply.content.decode().split('id="from-hub"')[1]
    assert reply.status_code == 422
    assert "Too many uploads are open" in form and "</form>" in form


def test_one_that_is_ready_makes_no_way(world: World, member: Member):
    adapter = world.adapter(member, name="support")
    reply = member.client.post(URL, ASKED)
    assert reply.status_code == 422 and "exists; choose another name" in reply.content.decode()
    adapter.refresh_from_db()
    assert adapter.state == "ready"


def test_it_is_not_resumed_as_an_upload(world: World, member: Member):
    adapter = hub_adapter(world, member)
    html = member.client.get("/console/adapters/upload/", {"adapter": adapter.id}).content.decode()
    assert "data-resume" not in html and 'id="from-hub"' in html
    other = world.adapter(member, name="mine", state="uploading", report={})
    html = member.client.get("/console/adapters/upload/", {"adapter": other.id}).content.decode()
    assert "data-resume" in html and 'id="from-hub"' not in html


def test_the_address_of_the_form_leads_to_its_page(member: Member):
    reply = member.client.get(URL)
    assert (reply.status_code, reply["Location"]) == (302, "/console/adapters/upload/")


def test_viewers_and_suspended_organisations_fetch_nothing(world: World, member: Member):
    member.role("viewer")
    assert member.client.post(URL, ASKED).status_code == 403
    member.role("owner")
    member.org.suspended_at = now() - timedelta(hours=1)
    member.org.save()
    assert member.client.post(URL, ASKED).status_code in {403, 412}
    assert not Adapter.objects.exists()
