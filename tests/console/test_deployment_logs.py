"""What engines have said: read from the agent of their host, shown to those whose deployment it is."""

import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership
from kindling_platform.deployments import replica_logs

EVENT = '{"event": "ready", "port": 1}'


class Agent(BaseHTTPRequestHandler):
    """Says what it was asked for, to whoever knows the token; says nothing to those who ask for a stopped one."""

    hangs = threading.Event()

    def do_GET(self) -> None:
        right = self.headers["authorization"] == "Bearer agent-secret"
        if "mute" in self.path:
            self.hangs.wait(20)
        body = f"<b>ready</b> {self.path}\n{EVENT}".encode() if right else b"{}"
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def agent_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    Agent.hangs.clear()
    monkeypatch.setattr(replica_logs._Agent, "silent_until", 0.0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Agent.hangs.set()
    server.shutdown()
    server.server_close()


def page(world: World, **headers: str) -> str:
    url = reverse("console:deployment-logs", args=[world.deployment.id])
    return world.operator.client.get(url, headers=headers).content.decode()


def test_the_operator_reads_what_a_replica_said(world: World, settings, agent_url: str):
    env = settings.KINDLING_ENV
    settings.KINDLING_ENV = dataclasses.replace(env, agent_url=agent_url, agent_token="agent-secret")
    name = world.deployment.replicas.get().name
    html = page(world)
    assert f"&lt;b&gt;ready&lt;/b&gt; /replicas/{name}/logs?tail=300" in html
    assert "<html" not in page(world, **{"HX-Request": "true"})
    link = reverse("console:deployment-logs", args=[world.deployment.id])
    at = reverse("console:deployment", args=[world.deployment.id])
    assert link in world.operator.client.get(at).content.decode()
    settings.KINDLING_ENV = dataclasses.replace(env, agent_url=agent_url, agent_token="another")
    assert "The agent does not answer: status 401" in page(world)


def test_an_agent_that_is_not_there_is_a_sentence(world: World, settings):
    settings.KINDLING_ENV = dataclasses.replace(settings.KINDLING_ENV, agent_url="http://127.0.0.1:9")
    assert "The agent does not answer" in page(world)
    world.deployment.replicas.all().delete()
    assert "There is no replica at the moment" in page(world)


def test_nobody_else_reads_them(world: World, member: Member):
    at = reverse("console:deployment", args=[world.deployment.id])
    assert "/logs/" not in member.client.get(at).content.decode()
    assert (
        member.client.get(reverse("console:deployment-logs", args=[world.deployment.id])).status_code == 404
    )


def test_whose_deployment_it_is_reads_them(world: World, member: Member, settings, agent_url: str):
    settings.KINDLING_ENV = dataclasses.replace(
        settings.KINDLING_ENV, agent_url=agent_url, agent_token="agent-secret"
    )
    url = f"/api/v1/deployments/{world.deployment.id}/logs"
    assert member.client.get(url).json()["error"]["code"] == "not_found"
    (seen,) = world.operator.client.get(url).json()["data"]
    replica = world.deployment.replicas.get()
    assert (seen["name"], seen["rank"], seen["problem"]) == (replica.name, 0, "")
    assert seen["text"].startswith("<b>ready</b>")
    world.deployment.organisation = member.org
    world.deployment.save()
    assert EVENT in seen["text"] and world.operator.client.get(url).json()["data"] == [seen]
    (theirs,) = member.client.get(url).json()["data"]
    assert theirs == seen | {"text": seen["text"].removesuffix(f"\n{EVENT}")} != seen
    page = reverse("console:deployment-logs", args=[world.deployment.id])
    assert "&lt;b&gt;ready&lt;/b&gt;" in member.client.get(page).content.decode()
    assert (
        page in member.client.get(reverse("console:deployment", args=[world.deployment.id])).content.decode()
    )


def test_only_who_may_operate_reads_the_logs_of_others(
    world: World, member: Member, settings, agent_url: str
):
    settings.KINDLING_ENV = dataclasses.replace(
        settings.KINDLING_ENV, agent_url=agent_url, agent_token="agent-secret"
    )
    world.deployment.organisation = member.org
    world.deployment.save()
    page = reverse("console:deployment-logs", args=[world.deployment.id])
    url = f"/api/v1/deployments/{world.deployment.id}/logs"
    assert world.operator.client.get(page).status_code == world.operator.client.get(url).status_code == 200
    membership = Membership.objects.get(user=world.operator.user)
    for role in ("viewer", "developer"):
        membership.role = role
        membership.save()
        assert world.operator.client.get(page).status_code == 404, role
        assert world.operator.client.get(url).status_code == 404, role
    membership.role = "billing"
    membership.save()
    assert world.operator.client.get(page).status_code == 403


def test_an_agent_that_hangs_holds_nobody_up_for_long(
    world: World, settings, agent_url: str, monkeypatch: pytest.MonkeyPatch
):
    settings.KINDLING_ENV = dataclasses.replace(
        settings.KINDLING_ENV, agent_url=agent_url, agent_token="agent-secret"
    )
    monkeypatch.setattr(replica_logs, "WITHIN_S", 0.2)
    asked: list[str] = []
    monkeypatch.setattr(
        replica_logs,
        "_read",
        lambda name, within_s, real=replica_logs._read: asked.append(name) or real("mute", within_s),
    )
    replica = world.deployment.replicas.get()
    replica.pk, replica.name, replica.rank = None, f"{replica.name}-2", 1
    replica.save()
    for _ in range(3):
        assert page(world).count("The agent does not answer: timed out") == 2
    assert len(asked) == 1
