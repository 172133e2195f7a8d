"""Deploying for oneself in the console: who sees the way to it, what it costs before, and what was set when."""

import dataclasses
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.cache import cache
from django.urls import reverse

from kindling_billing.terms import terms_set
from kindling_console_world import Member, World
from kindling_gpu_time import gpu_price
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, Replica

NEW = "/console/deployments/new/"


def page(who: Member, url: str, **headers: str) -> str:
    reply = who.client.get(url, headers=headers)
    assert reply.status_code == 200, reply.content
    return re.sub(r"\s+", " ", reply.content.decode())


@pytest.fixture
def opened(world: World, member: Member) -> str:
    """The operator has opened the model and allows two replicas; the address of the model's page."""
    gpu_price(world.model.id, 27_778, since=now())
    world.model.refresh_from_db()
    reply = world.operator.client.post(reverse("console:operator-deployable", args=[world.model.id]))
    url = reverse("console:model", args=[world.model.organisation.slug, world.model.name])
    assert (reply.status_code, reply["Location"]) == (303, url)
    terms_set(owner_id=member.org.id, own_replicas=2)
    return url


def test_the_way_to_it_is_there_for_those_who_may(world: World, member: Member, opened: str):
    link = f'href="{NEW}?model=kindling/spark"'
    assert link in page(member, opened) and "an hour</dd>" in page(member, opened)
    assert f'href="{NEW}"' in page(member, "/console/deployments/")
    member.role("viewer")
    assert link not in page(member, opened) and NEW not in page(member, "/console/deployments/")
    assert member.client.get(NEW).status_code == 403
    member.role("developer")
    terms_set(owner_id=member.org.id, own_replicas=0)
    assert NEW not in page(member, opened) and "Not open to your organisation" in page(member, NEW)
    terms_set(owner_id=member.org.id, own_replicas=1)
    world.operator.client.post(reverse("console:operator-deployable", args=[world.model.id]), {"do": "close"})
    assert NEW not in page(member, opened) and "No model is open to it yet" in page(member, NEW)


def test_the_cost_is_said_before(world: World, member: Member, opened: str):
    shown = page(member, f"{NEW}?model=kindling/spark")
    assert "kindling/spark — $0.10 an hour" in shown and "Credit left" in shown
    part = page(member, f"{NEW}?model=kindling/spark&replicas=2", **{"HX-Request": "true"})
    assert "<html" not in part and "An hour of 2 replicas" in part and "$0.20" in part
    assert "may run 2 replicas of its own at once" in page(
        member, f"{NEW}?replicas=3", **{"HX-Request": "true"}
    )
    for number in ("9999999999999", f"0001{'9' * 5000}", "0002000"):
        assert "An hour of 1 replica<" in page(member, f"{NEW}?replicas={number}", **{"HX-Request": "true"})
    gpu_price(world.model.id, 10**9, since=now())
    assert "Add credit first." in page(member, NEW)


def test_it_is_made_pinned_changed_set_back_and_copied(world: World, member: Member, opened: str):
    form = {"model": "kindling/spark", "name": "mine", "replicas": "1", "weights": "checkpoint"}
    wrong = member.client.post(NEW, form | {"name": "No Good", "replicas": "2"})
    assert wrong.status_code == 422 and 'value="No Good"' in wrong.content.decode()
    reply = member.client.post(NEW, form)
    made = Deployment.objects.get(name="mine")
    url = reverse("console:deployment", args=[made.id])
    assert (reply.status_code, reply["Location"]) == (303, url)
    assert "There is a deployment" in member.client.post(NEW, form).content.decode()
    shown = page(member, url)
    assert "kindling/spark#mine" in shown and "made so" in shown and "As it is now" in shown
    changed = {"replicas": "2", "weights": "fp16", "kv_dtype": "fp8"}
    assert member.client.post(url, changed).status_code == 303
    shown = page(member, url)
    assert "<del>1</del> → <ins>2</ins>" in shown and "<del>checkpoint</del> → <ins>fp16</ins>" in shown
    back = reverse("console:deployment-restored", args=[made.id, 1])
    assert f'action="{back}"' in shown
    stranger = world.member("bob")
    assert stranger.client.post(back).status_code == 404
    member.role("viewer")
    assert member.client.post(back).status_code == 403 and back not in page(member, url)
    member.role("owner")
    assert member.client.post(back).status_code == 303
    made.refresh_from_db()
    assert (made.desired_replicas, made.weights, made.kv_dtype) == (1, "checkpoint", "auto")
    assert "as in 1" in page(member, url) and "kindling" in page(world.operator, url)
    assert f'href="{NEW}?like={made.id}"' in page(member, url)
    assert 'value="mine-2"' in page(member, f"{NEW}?like={made.id}")
    for number in ("9", "x", "9" * 40, "0"):
        assert member.client.post(back.replace("/1/", f"/{number}/")).status_code == 404, number
    shared = reverse("console:deployment-restored", args=[world.deployment.id, 1])
    assert member.client.post(shared).status_code == 403
    assert "Configurations" not in page(member, reverse("console:deployment", args=[world.deployment.id]))


def test_no_room_is_a_state_with_a_reason(world: World, member: Member, opened: str):
    made = Deployment.objects.create(
        organisation=member.org, model=world.model, name="big", self_made=True, state="pending",
        reason="There is no room on the machine now.",
    )  # fmt: skip
    Replica.objects.create(deployment=made, name="big-0", generation=1, state="waiting")
    shown = page(member, reverse("console:deployment", args=[made.id]))
    assert "There is no room on the machine now." in shown and "Stop another deployment" in shown
    assert "A worker takes it up" not in shown


def test_what_it_runs_on_is_asked_of_the_machine(world: World, member: Member, opened: str, settings):
    cache.delete("machine")

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/host" and self.headers["authorization"] == "Bearer agent-secret"
            body = b'{"device": "NVIDIA H200"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings.KINDLING_ENV = dataclasses.replace(
            settings.KINDLING_ENV, agent_url=url, agent_token="agent-secret"
        )
        assert "NVIDIA H200" in page(member, NEW)
        server.shutdown()
    # It is believed for a while, and what makes no sense is nothing.
    assert "NVIDIA H200" in page(member, NEW)
    cache.delete("machine")
    assert "the operator&#x27;s machine" in page(member, NEW) or "the operator's machine" in page(member, NEW)
    cache.delete("machine")
