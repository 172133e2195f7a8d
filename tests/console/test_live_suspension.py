"""A running gateway hears through the real database that the operator stopped an organisation, and let it go on."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from django.db import connection
from django.urls import reverse

from kindling_billing.payments import payment_received
from kindling_console_world import Member, World
from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, gateway_env
from kindling_platform.deployments.models import Replica
from kindling_platform.gateway.app import create_app
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(world: World, tmp_path: Path) -> Iterator[GatewayServer]:
    """One on the tests' own database, before an engine that answers."""
    env = gateway_env()
    name = connection.settings_dict["NAME"]
    here = urlunsplit(urlsplit(env.database_url)._replace(path=f"/{name}"))
    app = create_app(gateway_env(database_url=here, home=tmp_path), grace_s=1)
    with FakeEngine() as engine:
        Replica.objects.update(url=engine.url)
        with GatewayServer(app) as server:
            yield server


def test_a_gateway_refuses_and_takes_a_key_again(world: World, member: Member, gateway: GatewayServer):
    payment_received(intent_id="pi_live", owner_id=member.org.id, amount_cents=500)
    _, text = key_create(org=member.org, name="ci", scopes=["inference"], actor=member.actor)
    url = reverse("console:operator-suspension", args=[member.org.id])

    def answered(status: int) -> httpx.Response | None:
        reply = http.post("/v1/chat/completions", json=chat("kindling/spark"))
        return reply if reply.status_code == status else None

    with gateway.client(text) as http:
        eventually(lambda: answered(200))
        world.operator.client.post(url, {"do": "suspend", "reason": "Their card was reported stolen."})
        refused = eventually(lambda: answered(412))
        assert refused.json()["error"]["code"] == "account_suspended"
        assert "stolen" not in refused.text
        world.operator.client.post(url, {"do": "resume", "reason": "It was found."})
        eventually(lambda: answered(200))
