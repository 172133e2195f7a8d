"""From an upload to the object store and back to an engine: agent and engines as processes, and a real S3 server."""

import http.client
import json
import shutil
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from kindling_agent import AgentProcess, eventually
from kindling_engine.starter import ADAPTER_PATHS
from kindling_engine_process import EngineProcess
from kindling_object_store import KEY_ID, S3, SECRET, s3_running
from kindling_people import make_customer, make_model
from kindling_platform.adapters import stored
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import blob_folder, blob_store, upload_folder
from kindling_platform.common.objectstore.blobs import WHOLE, key
from kindling_platform.deployments.models import Deployment, Replica
from kindling_rows import Shop, make_adapter, make_shop
from kindling_workers import validation
from kindling_workers.reconciler import deployment_reconcile
from kindling_workers.tasks import adapters as tasks
from kindling_workers.validation import adapter_validate
from kindling_workers.valkey import valkey_client

pytestmark = pytest.mark.django_db(transaction=True)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_running() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, home=str(tmp_path))
    return tmp_path


@pytest.fixture
def s3(server: S3, home: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The store of this installation, which has used it for the last time long ago."""
    server.reset()
    for name, value in server.settings(KINDLING_HOME=str(home)).items():
        monkeypatch.setenv(name, value)
    stored._memory.cache_clear()
    stored._opened.cache_clear()
    return server


@pytest.fixture
def agent(s3: S3, home: Path) -> Iterator[AgentProcess]:
    running = AgentProcess(home)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def valkey() -> "redis.Redis":
    return valkey_client()


def ask(home: Path, content_hash: str) -> tuple[int, dict[str, Any]]:
    """What an engine does that wants an adapter."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(home / "run" / "blobs.sock"))
    connection.request("POST", f"/blobs/{content_hash}")
    answer = connection.getresponse()
    try:
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def validated(adapter: Adapter, valkey: "redis.Redis") -> Adapter:
    adapter_validate(adapter_id=adapter.id, valkey=valkey)
    adapter.refresh_from_db()
    return adapter


def settle(agent: AgentProcess, shop: Shop) -> Replica:
    def look() -> Replica:
        deployment_reconcile(agent.driver, shop.deployment.id)
        return Replica.objects.get(name=shop.replica)

    return eventually(look, lambda replica: replica.state == "ready")


def stored_one(agent: AgentProcess, valkey: "redis.Redis") -> str:
    """A ready adapter in the store alone; gives its hash."""
    shop = make_shop()
    settle(agent, shop)
    content_hash = validated(make_adapter(shop), valkey).content_hash
    shutil.rmtree(blob_folder(content_hash))
    return content_hash


def test_an_adapter_is_ready_when_the_store_has_it(
    s3: S3, agent: AgentProcess, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    shop = make_shop()
    replica = settle(agent, shop)
    s3.status, s3.body = 403, b"<Error><Code>AccessDenied</Code></Error>"
    adapter = validated(make_adapter(shop), valkey)
    assert (adapter.state, adapter.reason) == ("validating", validation.STORE_REFUSES)
    assert adapter.lease_token == ""
    assert blob_folder(adapter.content_hash).is_dir()
    with monkeypatch.context() as patched:
        patched.setattr(
            validation, "engine_check", lambda *_: pytest.fail("checked again while the store is away")
        )
        assert validated(adapter, valkey).state == "validating"
    stored._memory.cache_clear()
    s3.status, s3.body, s3.status_for = 0, b"", {WEIGHTS: 400}
    assert validated(adapter, valkey).reason == validation.STORE_AWAY
    assert adapter.state == "validating"
    assert s3.names() == [key(adapter.content_hash, "adapter_config.json"), "installation.json"]
    stored._memory.cache_clear()
    s3.status_for = {}
    assert validated(adapter, valkey).state == "ready"
    assert (
        s3.read(key(adapter.content_hash, WEIGHTS))
        == (blob_folder(adapter.content_hash) / WEIGHTS).read_bytes()
    )
    pid = agent.driver.observe(replica.name).pid
    assert pid
    seen = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    assert str(agent.home / "run" / "blobs.sock").encode() in seen
    assert KEY_ID.encode() not in seen and SECRET.encode() not in seen
    assert SECRET not in (agent.home / "agent.log").read_text()


def test_the_agent_fetches_once_for_all_who_ask(
    s3: S3, home: Path, agent: AgentProcess, valkey: "redis.Redis"
):
    content_hash = stored_one(agent, valkey)
    s3.calls.clear()
    s3.hold = WEIGHTS
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, home, content_hash) for _ in range(5)]
        assert s3.is_held.wait(30)
        s3.go_on.set()
        assert {one.result()[0] for one in asked} == {200}
    assert sum(WEIGHTS in path for _, path in s3.calls) == 1
    assert (blob_folder(content_hash) / WEIGHTS).read_bytes() == s3.read(key(content_hash, WEIGHTS))
    assert ask(home, content_hash) == (200, {"ok": True})
    assert ask(home, "nothing")[0] == 404
    assert stat.S_IMODE((home / "run" / "blobs.sock").stat().st_mode) == 0o600


def test_an_agent_that_is_killed_while_it_fetches_fetches_again(
    s3: S3, home: Path, agent: AgentProcess, valkey: "redis.Redis"
):
    content_hash = stored_one(agent, valkey)
    s3.hold = WEIGHTS
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, home, content_hash)
        assert s3.is_held.wait(30)
        agent.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            asked.result()
    left = home / "blobs" / f".adp_fetch_{content_hash}"
    assert left.is_dir() and not blob_folder(content_hash).exists()
    s3.hold = ""
    s3.go_on.set()
    agent.start()
    eventually(lambda: (home / "run" / "blobs.sock").is_socket(), bool)
    assert ask(home, content_hash)[0] == 200
    assert blob_folder(content_hash).is_dir() and not left.exists()


def test_a_fetch_that_fails_says_why_and_is_not_tried_at_once(
    s3: S3, home: Path, agent: AgentProcess, valkey: "redis.Redis"
):
    content_hash = stored_one(agent, valkey)
    good = s3.read(key(content_hash, WEIGHTS))
    s3.write(key(content_hash, WEIGHTS), good[:-1] + b"!")
    status, body = ask(home, content_hash)
    assert (status, body["error"]["code"]) == (502, "object_store_damaged")
    calls = len(s3.calls)
    s3.write(key(content_hash, WEIGHTS), good)
    assert ask(home, content_hash)[0] == 502
    assert len(s3.calls) == calls, "it has just failed"
    assert not blob_folder(content_hash).exists()
    eventually(lambda: ask(home, content_hash)[0], lambda status: status == 200)
    assert ask(home, "ab" * 32)[1]["error"]["code"] == "object_store_missing"


def test_what_was_on_this_disk_before_is_put_by_a_task(s3: S3, home: Path, monkeypatch: pytest.MonkeyPatch):
    shop = make_shop()
    adapter = make_adapter(shop)
    adapter.content_hash, adapter.state = blob_store(adapter_id=adapter.id), "ready"
    adapter.save()
    tasks.store()
    assert key(adapter.content_hash, WHOLE) in s3.names()
    s3.status = 403
    stored._memory.cache_clear()
    tasks.store()
    assert key(adapter.content_hash, WHOLE) in s3.names(), (
        "a trouble of the store is a complaint, no traceback"
    )


def test_an_engine_answers_with_an_adapter_that_only_the_store_has(
    s3: S3, home: Path, agent: AgentProcess, valkey: "redis.Redis"
):
    owner = make_customer()
    model = make_model(owner, "spark")
    with EngineProcess(home, **{"blob-source": home / "run" / "blobs.sock"}) as engine:
        deployment = Deployment.objects.create(organisation=owner.org, model=model, name="spark")
        Replica.objects.create(
            deployment=deployment,
            name="real",
            generation=deployment.generation,
            url=engine.url,
            state="ready",
        )
        adapter = Adapter.objects.create(
            organisation=owner.org, base=model, name="intent", state="validating"
        )
        shutil.copytree(ADAPTER_PATHS["intent"], upload_folder(adapter.id))
        validated(adapter, valkey)
        assert (adapter.state, adapter.error) == ("ready", "")
        first = engine.chat(headers={"adapter": adapter.content_hash}, max_tokens=12)
        assert first.status_code == 200
        shutil.rmtree(blob_folder(adapter.content_hash))
        gone = httpx.post(f"{engine.url}/lora/unload", json={"adapter": adapter.content_hash})
        assert gone.json() == {"ok": True, "found": True}
        s3.hold = WEIGHTS
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(engine.chat, headers={"adapter": adapter.content_hash}, max_tokens=12)
            assert s3.is_held.wait(30)
            (seen,) = httpx.get(f"{engine.url}/lora").json()["adapters"]
            assert (seen["state"], seen["tier"]) == ("fetching", "store")
            assert engine.chat(max_tokens=4).status_code == 200, "the base answers meanwhile"
            s3.go_on.set()
            assert again.result().json()["choices"] == first.json()["choices"]
        assert blob_folder(adapter.content_hash).is_dir()
        missing = engine.chat(headers={"adapter": "cd" * 32}, max_tokens=4)
        assert (missing.status_code, missing.json()["error"]["code"]) == (412, "adapter_load_failed")
        assert "does not have these files whole" in missing.json()["error"]["message"]
        told = 'kindling_engine_adapter_requests{adapter="%s",state="failed",tier="store"} 0.0' % ("cd" * 32)
        assert told in httpx.get(f"{engine.url}/metrics").text
        unsure = httpx.post(f"{engine.url}/lora/check", json={"adapter": "cd" * 32})
        assert unsure.status_code == 503, "no verdict on an adapter that could not be fetched"
