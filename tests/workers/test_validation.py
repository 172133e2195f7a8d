"""An adapter's way to ready or rejected: files first, then a real (obedient) engine process that judges it."""

import json
import secrets
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from kindling_agent import AgentProcess, eventually
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import blob_folder, blob_store, content_hash_of, upload_folder
from kindling_platform.common.clock import now
from kindling_platform.common.leases import lease_take
from kindling_platform.deployments.models import Deployment, Replica
from kindling_rows import Shop, make_adapter, make_shop
from kindling_small_files import files_end_at
from kindling_workers.http import http_call
from kindling_workers.reconciler import deployment_reconcile
from kindling_workers.validation import MAX_BREAKS, adapter_validate
from kindling_workers.valkey import valkey_client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    running = AgentProcess(tmp_path / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


@pytest.fixture
def engine(agent: AgentProcess, shop: Shop) -> str:
    """The URL of a ready engine of the shop's model."""
    return settle(agent, shop).url


@pytest.fixture
def valkey() -> "redis.Redis":
    return valkey_client()


def settle(agent: AgentProcess, shop: Shop) -> Replica:
    def look() -> Replica:
        deployment_reconcile(agent.driver, shop.deployment.id)
        return Replica.objects.get(name=shop.replica)

    return eventually(look, lambda replica: replica.state == "ready")


def behave(engine: str, **how: object) -> None:
    assert http_call("POST", f"{engine}/behave", body=json.dumps(how).encode()).status == 200


def validated(adapter: Adapter, valkey: "redis.Redis") -> Adapter:
    adapter_validate(adapter_id=adapter.id, valkey=valkey)
    adapter.refresh_from_db()
    return adapter


def test_without_space_for_a_copy_an_adapter_waits_and_leaves_none_half_made(
    shop: Shop, engine: str, valkey: "redis.Redis"
):
    adapter = make_adapter(shop)
    blobs = blob_folder("any").parent
    before = sorted(blobs.glob("*"))
    with files_end_at(200):
        validated(adapter, valkey)
    assert (adapter.state, adapter.lease_token) == ("validating", "")
    assert "no space left" in adapter.reason
    assert sorted(blobs.glob("*")) == before
    assert validated(adapter, valkey).state == "ready"


def test_a_good_adapter_becomes_ready(shop: Shop, engine: str, valkey: "redis.Redis"):
    adapter = make_adapter(shop)
    expected = content_hash_of(upload_folder(adapter.id))
    validated(adapter, valkey)
    assert (adapter.state, adapter.reason, adapter.error_code) == ("ready", "", "")
    assert (adapter.content_hash, adapter.rank) == (expected, 2)
    checks = {finding["check"]: finding["level"] for finding in adapter.report["findings"]}
    assert checks["tensor_shapes"] == checks["smoke"] == "pass"
    assert (blob_folder(expected) / "adapter_model.safetensors").exists()
    assert not upload_folder(adapter.id).exists()
    assert adapter.lease_token == ""


def test_what_came_along_is_looked_at_and_not_kept(shop: Shop, engine: str, valkey: "redis.Redis"):
    adapter = make_adapter(shop)
    expected = content_hash_of(upload_folder(adapter.id))
    (upload_folder(adapter.id) / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    validated(adapter, valkey)
    assert (adapter.state, adapter.content_hash) == ("ready", expected)
    (licence,) = [finding for finding in adapter.report["findings"] if finding["check"] == "licence"]
    assert licence["level"] == "warn"
    assert not (blob_folder(expected) / "README.md").exists()


def test_a_wrong_shape_is_rejected_without_an_engine(shop: Shop, valkey: "redis.Redis"):
    adapter = validated(make_adapter(shop, out_features=16), valkey)
    assert (adapter.state, adapter.error_code) == ("rejected", "tensor_shapes")
    assert "do not fit" in adapter.error
    assert "Choose the base model" in adapter.error
    assert not upload_folder(adapter.id).exists()


def test_an_engine_that_finds_bad_values_rejects_with_its_finding(
    shop: Shop, engine: str, valkey: "redis.Redis"
):
    finding = {"check": "values", "level": "fail", "message": "12 values are NaN.", "fix": "Train again."}
    behave(engine, body={"ok": False, "findings": [finding], "smoke_text": ""})
    adapter = validated(make_adapter(shop), valkey)
    assert (adapter.state, adapter.error_code) == ("rejected", "values")
    assert adapter.error == "12 values are NaN. Train again."
    assert adapter.report["findings"][-1] == finding


def test_a_refusal_to_load_rejects(shop: Shop, engine: str, valkey: "redis.Redis"):
    body = {"error": {"message": "The adapter does not fit in memory.", "code": "adapter_load_failed"}}
    behave(engine, status=412, body=body)
    adapter = validated(make_adapter(shop), valkey)
    assert (adapter.state, adapter.error_code) == ("rejected", "smoke")
    assert adapter.error == "The adapter does not fit in memory."


def test_without_a_ready_engine_it_waits_with_a_reason_and_is_tried_again(
    shop: Shop, agent: AgentProcess, valkey: "redis.Redis"
):
    adapter = validated(make_adapter(shop), valkey)
    assert adapter.state == "validating"
    assert shop.model.ref in adapter.reason
    assert (adapter.lease_token, adapter.content_hash) == ("", "")
    settle(agent, shop)
    assert validated(adapter, valkey).state == "ready"


def test_others_engines_are_not_asked(shop: Shop, agent: AgentProcess, valkey: "redis.Redis"):
    stranger = Organisation.objects.create(slug=f"other-{secrets.token_hex(4)}", name="Other")
    theirs = Deployment.objects.create(organisation=stranger, model=shop.model, name="own")

    def look() -> Replica | None:
        deployment_reconcile(agent.driver, theirs.id)
        return Replica.objects.filter(deployment=theirs).first()

    eventually(look, lambda replica: replica is not None and replica.state == "ready")
    adapter = validated(make_adapter(shop), valkey)
    assert adapter.state == "validating"
    assert adapter.reason.startswith("Waiting for a running engine")
    settle(agent, shop)
    Deployment.objects.filter(id=shop.deployment.id).update(desired_state="stopped")
    assert validated(adapter, valkey).state == "validating"
    Deployment.objects.filter(id=shop.deployment.id).update(desired_state="running")
    assert validated(adapter, valkey).state == "ready"


def test_a_busy_or_vanished_engine_is_no_verdict(shop: Shop, engine: str, valkey: "redis.Redis"):
    behave(engine, status=503, body={"error": {"message": "Busy.", "code": "overloaded"}})
    adapter = validated(make_adapter(shop), valkey)
    assert adapter.state == "validating"
    Replica.objects.update(url="http://127.0.0.1:9")
    assert validated(adapter, valkey).state == "validating"
    assert "does not answer" in adapter.reason


def test_what_was_copied_once_is_not_copied_again(
    shop: Shop, engine: str, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    from kindling_workers import validation

    behave(engine, status=503, body={"error": {"message": "Busy.", "code": "overloaded"}})
    adapter = validated(make_adapter(shop), valkey)
    stored = adapter.content_hash
    assert blob_folder(stored).is_dir()
    with monkeypatch.context() as patched:
        patched.setattr(validation, "blob_store", lambda **_: pytest.fail("copied again"))
        assert validated(adapter, valkey).state == "validating"
    shutil.rmtree(blob_folder(stored))
    behave(engine, status=200, body={"ok": True, "findings": [], "smoke_text": ""})
    assert (validated(adapter, valkey).state, adapter.content_hash) == ("ready", stored)


def test_a_lease_is_kept_while_files_are_read(
    shop: Shop, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    from kindling_workers import validation

    adapter = make_adapter(shop)
    read = validation.check_adapter_folder

    def on_a_slow_disk(folder: Path, shape: object) -> object:
        first = Adapter.objects.get(id=adapter.id).lease_expires_at
        eventually(
            lambda: Adapter.objects.get(id=adapter.id).lease_expires_at, lambda until: until and until > first
        )
        return read(folder, shape)

    monkeypatch.setattr(validation, "LEASE_S", 0.3)
    monkeypatch.setattr(validation, "check_adapter_folder", on_a_slow_disk)
    assert "Waiting for a running engine" in validated(adapter, valkey).reason


def test_an_adapter_that_takes_its_engine_down_is_rejected_in_the_end(
    shop: Shop, agent: AgentProcess, engine: str, valkey: "redis.Redis"
):
    adapter = make_adapter(shop)
    for attempt in range(MAX_BREAKS):
        # The agent notices a death within a moment; until then it still calls the engine ready.
        eventually(
            lambda: agent.driver.observe(shop.replica),
            lambda seen, attempt=attempt: seen and (seen.state, seen.restarts) == ("ready", attempt),
        )
        behave(engine, die=True)
        validated(adapter, valkey)
        assert adapter.state == ("validating" if attempt < MAX_BREAKS - 1 else "rejected")
    assert adapter.error_code == "smoke"
    assert "stopped 3 times" in adapter.error


def test_twice_is_the_same_as_once(shop: Shop, engine: str, valkey: "redis.Redis"):
    adapter = validated(make_adapter(shop), valkey)
    assert adapter.state == "ready"
    report = adapter.report
    assert adapter_validate(adapter_id=adapter.id, valkey=valkey) is False
    adapter.refresh_from_db()
    assert (adapter.state, adapter.report) == ("ready", report)


def test_the_same_content_is_stored_once(shop: Shop, engine: str, valkey: "redis.Redis"):
    first = validated(make_adapter(shop), valkey)
    second = validated(make_adapter(shop, name="copy"), valkey)
    assert (first.state, second.state) == ("ready", "ready")
    assert first.content_hash == second.content_hash


def test_a_leased_adapter_is_left_to_its_worker(shop: Shop, engine: str, valkey: "redis.Redis"):
    adapter = make_adapter(shop)
    token = lease_take(Adapter.objects, pk=adapter.id, ttl_s=30)
    assert validated(adapter, valkey).state == "validating"
    assert adapter.lease_token == token
    Adapter.objects.update(lease_expires_at=now() - timedelta(seconds=1))
    assert validated(adapter, valkey).state == "ready"


def test_an_adapter_deleted_meanwhile_stays_deleted(
    shop: Shop, engine: str, valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    from kindling_workers import validation

    adapter = make_adapter(shop)
    judge = validation.engine_check

    def deleted_while_judged(url: str, content_hash: str):
        Adapter.objects.filter(id=adapter.id).update(state=Adapter.State.DELETED)
        return judge(url, content_hash)

    monkeypatch.setattr(validation, "engine_check", deleted_while_judged)
    assert validated(adapter, valkey).state == "deleted"
    assert adapter.ready_at is None


def test_what_is_written_to_the_upload_later_does_not_reach_the_copy(shop: Shop, valkey: "redis.Redis"):
    adapter = make_adapter(shop)
    content_hash = blob_store(adapter_id=adapter.id)
    weights = upload_folder(adapter.id) / "adapter_model.safetensors"
    with weights.open("r+b") as late_request:
        late_request.write(b"\xff" * 64)
    assert content_hash_of(blob_folder(content_hash)) == content_hash


def test_an_unknown_adapter_is_no_error(valkey: "redis.Redis"):
    assert adapter_validate(adapter_id="adp_gone", valkey=valkey) is False
