"""A running gateway hears through the real database, within a second, that an organisation was deleted."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from django.db import connection

from kindling_billing.payments import payment_received
from kindling_console_world import Member, World
from kindling_departures import confirmed
from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, gateway_env
from kindling_platform.departures.organisations import organisations_clear
from kindling_platform.deployments.models import Replica
from kindling_platform.gateway.app import create_app
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db(transaction=True)
WITHIN_S = 2.0  # the second that a key is known for, and this machine's other work


@pytest.fixture
def gateway(world: World, tmp_path: Path) -> Iterator[GatewayServer]:
    """One on the tests' own database, before an engine that answers."""
    name = connection.settings_dict["NAME"]
    here = urlunsplit(urlsplit(gateway_env().database_url)._replace(path=f"/{name}"))
    app = create_app(gateway_env(database_url=here, home=tmp_path), grace_s=1)
    with FakeEngine() as engine:
        Replica.objects.update(url=engine.url)
        with GatewayServer(app) as server:
            yield server


def test_a_gateway_refuses_its_keys_and_those_of_others_go_on(
    world: World, member: Member, gateway: GatewayServer
):
    other = world.member("grace")
    texts = {}
    for one in (member, other):
        payment_received(intent_id=f"pi_{one.org.id}", owner_id=one.org.id, amount_cents=500)
        texts[one.org.id] = key_create(org=one.org, name="ci", scopes=["inference"], actor=one.actor)[1]

    def answered(http: httpx.Client, status: int) -> httpx.Response | None:
        reply = http.post("/v1/chat/completions", json=chat("kindling/spark"))
        return reply if reply.status_code == status else None

    with gateway.client(texts[member.org.id]) as theirs, gateway.client(texts[other.org.id]) as others:
        eventually(lambda: answered(theirs, 200))
        client = confirmed(member.user)
        form = {"confirm": member.org.slug, "give_up": f"{member.org.id}:500"}
        assert client.post("/console/settings/delete/", form).status_code == 303
        begun = time.monotonic()
        refused = eventually(lambda: answered(theirs, 412))
        assert time.monotonic() - begun < WITHIN_S
        assert refused.json()["error"]["code"] == "organisation_deleted"
        organisations_clear()
        revoked = eventually(lambda: answered(theirs, 401))
        assert revoked.json()["error"]["code"] == "key_revoked"
        assert answered(others, 200)
