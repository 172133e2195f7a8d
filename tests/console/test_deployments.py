"""Deployments: every state has a reason or a next step; starting and stopping is for those who may."""

import pytest
from django.urls import reverse

from kindling_console_world import Member, World, make_world


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("pending", "A worker takes it up"), ("starting", "reads the weights"), ("live", "It answers requests."),
        ("degraded", "being brought back"), ("stopped", "Start it to serve again."),
        ("failed", "tried again by itself"),
    ],
)  # fmt: skip
def test_each_state_says_what_comes_next(world: World, member: Member, state: str, words: str):
    world.deployment.state = state
    world.deployment.save()
    url = reverse("console:deployment", args=[world.deployment.id])
    part = member.client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert words in part
    assert "<html" not in part
    world.deployment.reason = "The GPU is gone."
    world.deployment.save()
    assert "The GPU is gone." in member.client.get(url).content.decode()


def test_addresses_of_engines_are_for_the_operator(world: World, member: Member):
    url = reverse("console:deployment", args=[world.deployment.id])
    assert "http://127.0.0.1:9" not in member.client.get(url).content.decode()
    assert "http://127.0.0.1:9" in world.operator.client.get(url).content.decode()
    assert "It answers." in member.client.get(url).content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_operator_stops_and_starts(world: World):
    page = reverse("console:deployment", args=[world.deployment.id])
    for action, desired in (("stop", "stopped"), ("start", "running")):
        reply = world.operator.client.post(
            reverse("console:deployment-action", args=[world.deployment.id, action])
        )
        assert (reply.status_code, reply["Location"]) == (303, page)
        world.deployment.refresh_from_db()
        assert world.deployment.desired_state == desired
    assert "asked for it to be running" in world.operator.client.get(page).content.decode()


def test_a_customer_cannot_stop_what_everybody_uses(world: World, member: Member):
    reply = member.client.post(reverse("console:deployment-action", args=[world.deployment.id, "stop"]))
    assert reply.status_code == 403
    world.deployment.refresh_from_db()
    assert world.deployment.desired_state == "running"
    assert 'name="csrfmiddlewaretoken"' in member.client.get("/console/deployments/").content.decode()
    page = member.client.get(reverse("console:deployment", args=[world.deployment.id])).content.decode()
    assert "/stop/" not in page
