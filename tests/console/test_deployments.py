"""Deployments: every state has a reason or a next step; starting and stopping is for those who may."""

import pytest
from django.urls import reverse

from kindling_billing.services import price_publish
from kindling_console_world import CACHED, INPUT, OUTPUT, Member, World
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, DeploymentSpeed


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("pending", "A worker takes it up"), ("starting", "reads the weights"), ("live", "It answers requests."),
        ("degraded", "being brought back"), ("stopped", "with 503, unless another deployment serves the model"),
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


def test_stopping_asks_first(world: World, member: Member):
    stop = reverse("console:deployment-action", args=[world.deployment.id, "stop"])
    page = world.operator.client.get(
        reverse("console:deployment", args=[world.deployment.id])
    ).content.decode()
    assert f'href="{stop}"' in page and f'action="{stop}"' not in page
    asked = world.operator.client.get(stop).content.decode()
    assert "are refused with 503 until it is started again" in asked and "Stop it</button>" in asked
    world.deployment.refresh_from_db()
    assert world.deployment.desired_state == "running"
    assert member.client.get(stop).status_code == 403
    start = world.operator.client.get(stop.replace("/stop/", "/start/"))
    assert (start.status_code, start["Location"]) == (302, stop.removesuffix("stop/"))


def test_the_operator_changes_one(world: World, member: Member):
    page = reverse("console:deployment", args=[world.deployment.id])
    assert 'name="replicas"' in world.operator.client.get(page).content.decode()
    reply = world.operator.client.post(page, {"replicas": "3", "weights": "checkpoint"})
    assert (reply.status_code, reply["Location"]) == (303, page)
    world.deployment.refresh_from_db()
    assert (world.deployment.desired_replicas, world.deployment.generation) == (3, 1)
    wrong = world.operator.client.post(page, {"replicas": "0", "weights": "checkpoint"})
    assert wrong.status_code == 422 and "greater than or equal to 1" in wrong.content.decode()
    assert 'name="replicas"' not in member.client.get(page).content.decode()
    assert member.client.post(page, {"replicas": "9", "weights": "checkpoint"}).status_code == 403
    world.deployment.refresh_from_db()
    assert world.deployment.desired_replicas == 3


def test_a_duplicate_begins_as_the_first_is(world: World):
    Deployment.objects.filter(id=world.deployment.id).update(desired_replicas=7, weights="fp16")
    page = world.operator.client.get(reverse("console:deployment", args=[world.deployment.id]))
    address = reverse("console:operator-deployments", args=[world.operator.org.id])
    link = f"{address}?like={world.deployment.id}"
    assert link in page.content.decode()
    form = world.operator.client.get(link).content.decode()
    assert f'value="{world.deployment.name}-2"' in form and 'value="7"' in form
    assert '<option value="fp16" selected>' in form
    assert 'value="7"' not in world.operator.client.get(f"{address}?like=dep_none").content.decode()


def test_the_operator_deletes_one_by_its_name(world: World, member: Member):
    page = reverse("console:deployment", args=[world.deployment.id])
    delete = reverse("console:deployment-delete", args=[world.deployment.id])
    assert delete in world.operator.client.get(page).content.decode()
    assert member.client.post(delete, {"name": world.deployment.name}).status_code == 403
    assert "confirm" in world.operator.client.get(delete).content.decode()
    assert world.operator.client.post(delete, {"name": "another"}).status_code == 422
    assert world.operator.client.get(page).status_code == 200
    assert world.operator.client.post(delete, {"name": world.deployment.name}).status_code == 303
    assert world.operator.client.get(page).status_code == 404
    world.deployment.refresh_from_db()
    assert world.deployment.desired_state == "deleted"


def test_a_customer_cannot_stop_what_everybody_uses(world: World, member: Member):
    reply = member.client.post(reverse("console:deployment-action", args=[world.deployment.id, "stop"]))
    assert reply.status_code == 403
    world.deployment.refresh_from_db()
    assert world.deployment.desired_state == "running"
    assert 'name="csrfmiddlewaretoken"' in member.client.get("/console/deployments/").content.decode()
    page = member.client.get(reverse("console:deployment", args=[world.deployment.id])).content.decode()
    assert "/stop/" not in page


def test_a_list_says_how_fast_how_busy_and_how_dear_each_is(world: World, member: Member):
    price_publish(
        sku=world.model.id, input_picousd=INPUT, cached_input_picousd=CACHED, output_picousd=OUTPUT,
        gpu_ms_picousd=555_556,
    )  # fmt: skip
    own = Deployment.objects.create(
        organisation=member.org, model=world.model, name="mine", state="live", desired_replicas=2
    )
    url = reverse("console:deployments")
    assert "paid by token" in member.client.get(url).content.decode()
    for deployment, scope, p95 in ((own, member.org.id, 1234.0), (world.deployment, "*", 77.0)):
        DeploymentSpeed.objects.create(
            deployment=deployment, scope=scope, window_start=now(), window_end=now(), samples=1500,
            first_token_samples=1500, duration_p50_ms=50, duration_p95_ms=p95, hour_requests=7200,
        )  # fmt: skip
    html = member.client.get(url, headers={"HX-Request": "true"}).content.decode()
    mine, shared = (html.split(f'id="row-{one.id}"')[1].split("</tr>")[0] for one in (own, world.deployment))
    for words in ("1.23 s", "1,500 answers", "2.00", "your requests", "$4.00", "2 replicas"):
        assert words in mine, words
    # What belongs to the operator, and what all of them asked for, is not a customer's to see.
    assert "77 ms" not in html and "2.00" not in shared
    page = member.client.get(reverse("console:deployment", args=[own.id])).content.decode()
    assert "1.23 s" in page and "7,200 in all" in page and "2 replicas at $2.00" in page
    seen = world.operator.client.get(url).content.decode()
    assert "77 ms" in seen and "all requests" in seen and "to you" in seen


def test_what_is_done_to_one_is_a_button_in_its_row(world: World, member: Member):
    own = Deployment.objects.create(organisation=member.org, model=world.model, name="mine")
    url = reverse("console:deployments")
    actions = {name: reverse("console:deployment-action", args=[own.id, name]) for name in ("start", "stop")}
    delete = reverse("console:deployment-delete", args=[own.id])
    html = member.client.get(url).content.decode()
    assert f'href="{actions["stop"]}"' in html and f'href="{delete}"' in html and actions["start"] not in html
    assert world.deployment.id + "/stop/" not in html and "?like=" not in html
    Deployment.objects.filter(id=own.id).update(desired_state="stopped")
    html = member.client.get(url).content.decode()
    assert f'action="{actions["start"]}"' in html and actions["stop"] not in html
    theirs = world.operator.client.get(url).content.decode()
    assert f"?like={world.deployment.id}" in theirs and world.deployment.id + "/stop/" in theirs
    member.role("viewer")
    html = member.client.get(url).content.decode()
    assert delete not in html and actions["start"] not in html
