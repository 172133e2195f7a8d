"""Adapters from the hub: huggingface_hub itself against a hub on this machine, step by step."""

import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection

from kindling_hub import Hub, hub_run
from kindling_hub_adapters import (
    CARD,
    COMMIT,
    CONFIG,
    REPOSITORY,
    WEIGHTS,
    fetch_of,
    hub_with,
    large_adapter,
    spark_get,
    wanted,
)
from kindling_people import Customer, make_customer, make_operator
from kindling_platform.adapters import storage
from kindling_platform.adapters.hub_fetch import RETRY_AFTER_S, hub_fetch_list_due
from kindling_platform.adapters.models import Adapter, HubFetch
from kindling_platform.adapters.receiving import HEAD_BYTES
from kindling_platform.adapters.services import adapter_delete
from kindling_platform.adapters.storage import upload_folder
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_worker import worker_env
from kindling_workers.hub_fetch import hub_fetch_step
from kindling_workers.tasks import adapters as tasks

pytestmark = pytest.mark.django_db(transaction=True)
FILES = large_adapter()
HEAD = f"bytes=0-{HEAD_BYTES - 1}"
KILLED = """
import sys, django
django.setup()
from kindling_workers.hub_fetch import hub_fetch_step
hub_fetch_step(adapter_id=sys.argv[1])
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_run() as running:
        hub_with(running, FILES)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


@pytest.fixture
def spark(db: None) -> Model:
    return spark_get(make_operator())


def stepped(adapter: Adapter) -> Adapter:
    """After one more step, as soon as one may be taken."""
    HubFetch.objects.filter(adapter=adapter).update(due_at=now() - timedelta(seconds=1))
    assert hub_fetch_list_due() == [adapter.id]
    assert hub_fetch_step(adapter_id=adapter.id)
    return Adapter.objects.get(id=adapter.id)


def ranges_of_weights(hub: Hub) -> list[str]:
    return [one for one in hub.ranges if one == HEAD or not one.startswith("bytes=0-")]


def test_the_three_files_of_one_commit_come_and_the_checks_begin(hub: Hub, ada: Customer, spark: Model):
    adapter = stepped(wanted(ada, spark))
    assert (adapter.state, adapter.reason) == ("validating", "Waiting for a worker.")
    assert {file.name: file.received_bytes for file in adapter.files.all()} == {
        name: len(content) for name, content in FILES.items()
    }
    arrived = {name: (upload_folder(adapter.id) / name).read_bytes() for name in FILES}
    assert arrived == FILES
    # Nothing else was asked for, and the large one last, in two parts: its header before the rest.
    assert list(dict.fromkeys(hub.fetched())) == [CONFIG, CARD, WEIGHTS]
    assert all(f"/{COMMIT}/" in path for _, path in hub.calls if "/resolve/" in path)
    assert ranges_of_weights(hub) == [HEAD, f"bytes={HEAD_BYTES}-{len(FILES[WEIGHTS]) - 1}"]
    assert fetch_of(adapter).commit == COMMIT
    assert adapter.lease_token == "" and hub_fetch_list_due() == []
    assert not hub_fetch_step(adapter_id=adapter.id)


def test_a_wrong_base_ends_it_at_the_header(hub: Hub, ada: Customer, spark: Model):
    shapes = {**spark.shapes, "hidden_size": spark.shapes["hidden_size"] * 2}
    Model.objects.filter(id=spark.id).update(shapes=shapes)
    adapter = stepped(wanted(ada, spark))
    assert adapter.state == "rejected" and "shape" in adapter.error_code + adapter.error
    assert ranges_of_weights(hub) == [HEAD]
    assert not (upload_folder(adapter.id) / WEIGHTS).exists()


def test_a_wrong_config_ends_it_before_any_weight(hub: Hub, ada: Customer, spark: Model):
    hub_with(hub, FILES | {CONFIG: FILES[CONFIG].replace(b'"LORA"', b'"IA3"')})
    adapter = stepped(wanted(ada, spark, token="hf_secret"))
    assert (adapter.state, adapter.error_code) == ("rejected", "peft_type")
    assert hub.fetched() == [CONFIG]
    assert bytes(fetch_of(adapter).sealed_token) == b""


@pytest.mark.parametrize(
    ("files", "sizes", "code", "said"),
    [
        ({CONFIG: b"{}", "adapter_model.bin": b"x"}, {}, "pickle_refused", "kindling adapters convert"),
        ({CONFIG: b"{}"}, {}, "hub_incomplete", f"no {WEIGHTS}"),
        ({"config.json": b"{}", WEIGHTS: b"x"}, {}, "hub_incomplete", f"no {CONFIG}"),
        (FILES, {WEIGHTS: 3 * 2**30}, "file_too_large", "at most"),
        (FILES | {WEIGHTS: b""}, {}, "empty_file", "is empty"),
    ],
)
def test_what_no_adapter_can_come_of_is_refused_by_the_listing(
    hub: Hub, ada: Customer, spark: Model, files: dict, sizes: dict, code: str, said: str
):
    hub_with(hub, files, sizes=sizes)
    adapter = stepped(wanted(ada, spark))
    assert (adapter.state, adapter.error_code) == ("rejected", code)
    assert said in adapter.error
    assert hub.fetched() == []


def test_a_mirror_that_tells_no_sizes_will_do_and_a_long_card_is_left_out(
    hub: Hub, ada: Customer, spark: Model
):
    hub_with(hub, FILES | {CARD: b"x" * (1024**2 + 1)}, sizes_told=False)
    adapter = stepped(wanted(ada, spark))
    assert adapter.state == "validating"
    assert sorted(file.name for file in adapter.files.all()) == [CONFIG, WEIGHTS]


def test_a_cut_connection_is_told_and_gone_on_with_from_there(hub: Hub, ada: Customer, spark: Model):
    half = HEAD_BYTES // 2
    hub.cut_after[WEIGHTS] = half
    adapter = stepped(wanted(ada, spark))
    assert adapter.state == "uploading" and "It is tried again in 5 seconds" in adapter.reason
    assert hub_fetch_list_due() == []
    weights = adapter.files.get(name=WEIGHTS)
    assert 0 < weights.received_bytes <= half
    hub.ranges.clear()
    adapter = stepped(adapter)
    assert adapter.state == "validating"
    assert hub.ranges[0] == f"bytes={weights.received_bytes}-{HEAD_BYTES - 1}"
    assert (upload_folder(adapter.id) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_whoever_is_killed_has_noted_what_arrived(hub: Hub, ada: Customer, spark: Model):
    adapter = wanted(ada, spark)
    hub.hold_at[WEIGHTS] = HEAD_BYTES + 300_000
    environment = worker_env(HF_ENDPOINT=hub.url)
    worker = subprocess.Popen([sys.executable, "-c", KILLED, adapter.id], env=environment)
    try:
        assert hub.is_held.wait(90)
    finally:
        worker.kill()
        worker.wait()
    assert adapter.files.get(name=WEIGHTS).received_bytes == HEAD_BYTES
    # Nobody takes it up while the dead one's lease runs.
    assert not hub_fetch_step(adapter_id=adapter.id)
    Adapter.objects.filter(id=adapter.id).update(lease_expires_at=now() - timedelta(seconds=1))
    hub.hold_at.clear()
    hub.calls.clear()
    hub.ranges.clear()
    assert stepped(adapter).state == "validating"
    assert hub.fetched() == [WEIGHTS]
    assert hub.ranges == [f"bytes={HEAD_BYTES}-{len(FILES[WEIGHTS]) - 1}"]
    assert (upload_folder(adapter.id) / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_deleting_it_ends_the_download(hub: Hub, ada: Customer, spark: Model):
    adapter = wanted(ada, spark, token="hf_secret")
    hub.hold_at[WEIGHTS] = HEAD_BYTES + 300_000
    worker = threading.Thread(target=lambda: (hub_fetch_step(adapter_id=adapter.id), connection.close()))
    worker.start()
    assert hub.is_held.wait(60)
    adapter_delete(org=ada.org, adapter_id=adapter.id, actor=ada.actor)
    hub.go_on.set()
    worker.join(60)
    assert not worker.is_alive()
    adapter.refresh_from_db()
    assert (adapter.state, adapter.lease_token) == ("deleted", "")
    assert not (upload_folder(adapter.id) / CONFIG).exists()
    assert bytes(fetch_of(adapter).sealed_token) == b""
    assert hub_fetch_list_due() == [] and not hub_fetch_step(adapter_id=adapter.id)


def test_what_a_disk_has_lost_is_fetched_again(hub: Hub, ada: Customer, spark: Model):
    hub.cut_after[WEIGHTS] = HEAD_BYTES // 2
    adapter = stepped(wanted(ada, spark))
    (upload_folder(adapter.id) / WEIGHTS).write_bytes(FILES[WEIGHTS][:1000])
    (upload_folder(adapter.id) / CONFIG).unlink()
    assert stepped(adapter).state == "validating"
    assert {name: (upload_folder(adapter.id) / name).read_bytes() for name in FILES} == FILES


def test_a_hub_that_is_away_is_asked_again_and_at_last_given_up(hub: Hub, ada: Customer, spark: Model):
    hub.status = 503
    adapter = stepped(wanted(ada, spark))
    assert adapter.state == "uploading"
    assert adapter.reason.startswith("The Hugging Face hub could not be reached from this installation: ")
    waits = []
    for _ in range(5):
        waits.append((fetch_of(adapter).due_at - now()).total_seconds())
        adapter = stepped(adapter)
    assert all(0 < due_s - wait < 4 for wait, due_s in zip(waits, RETRY_AFTER_S, strict=True))
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_offline")
    assert "It was tried 6 times. Fetch the repository elsewhere and upload its files." in adapter.error


def test_an_installation_without_network_says_so_at_once(
    hub: Hub, ada: Customer, spark: Model, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    adapter = stepped(wanted(ada, spark))
    assert "could not be reached from this installation: ConnectError." in adapter.reason
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    adapter = stepped(adapter)
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_offline")
    assert "HF_HUB_OFFLINE is set" in adapter.error and "upload its files" in adapter.error


def test_the_token_opens_a_private_repository_and_is_forgotten(
    hub: Hub, ada: Customer, spark: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    hub_with(hub, FILES, token="hf_private", private=True)
    # The installation's own token is nobody's but the operator's.
    monkeypatch.setenv("HF_TOKEN", "hf_private")
    adapter = stepped(wanted(ada, spark))
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_not_found")
    assert set(hub.tokens) == {""}
    adapter = wanted(ada, spark, token="hf_private")
    kept = bytes(fetch_of(adapter).sealed_token)
    assert kept and b"hf_private" not in kept
    assert stepped(adapter).state == "validating"
    assert bytes(fetch_of(adapter).sealed_token) == b""
    assert "hf_private" not in caplog.text


def test_a_gated_one_says_what_to_do(hub: Hub, ada: Customer, spark: Model):
    hub_with(hub, FILES, token="hf_right")
    adapter = stepped(wanted(ada, spark, token="hf_wrong"))
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_forbidden")
    assert "Accept its terms" in adapter.error and "hf_wrong" not in adapter.error


def test_a_token_that_was_sealed_with_another_secret_is_asked_for_again(
    hub: Hub, ada: Customer, spark: Model, settings
):
    adapter = wanted(ada, spark, token="hf_private")
    settings.SECRET_KEY = "another"
    adapter = stepped(adapter)
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_forbidden") and hub.calls == []


def test_files_that_lie_elsewhere_are_fetched_there_without_the_token(hub: Hub, ada: Customer, spark: Model):
    hub_with(hub, FILES, token="hf_private", private=True)
    with hub_run() as storage:
        hub_with(storage, FILES)
        hub.storage = storage.url.replace("127.0.0.1", "localhost")
        assert stepped(wanted(ada, spark, token="hf_private")).state == "validating"
        assert list(dict.fromkeys(storage.fetched())) == [CONFIG, CARD, WEIGHTS]
        assert set(storage.tokens) == {""} and "hf_private" in hub.tokens


def test_a_missing_revision_is_told(hub: Hub, ada: Customer, spark: Model):
    adapter = stepped(wanted(ada, spark, revision="v9"))
    assert (adapter.state, adapter.error_code) == ("rejected", "hub_not_found")
    assert REPOSITORY in adapter.error


def test_organisations_take_turns_and_suspended_ones_wait(hub: Hub, ada: Customer, spark: Model):
    bob = make_customer("bob")
    many = [wanted(ada, spark, name=f"many-{i}") for i in range(3)]
    one = wanted(bob, spark)
    hub.status = 503
    assert hub_fetch_list_due()[0] == many[0].id
    hub_fetch_step(adapter_id=many[0].id)
    assert hub_fetch_list_due() == [one.id, many[1].id, many[2].id]
    for customer, left in ((ada, [one.id]), (bob, [])):
        customer.org.suspended_at = now()
        customer.org.save()
        assert hub_fetch_list_due() == left


def test_the_task_goes_from_turn_to_turn(
    hub: Hub, ada: Customer, spark: Model, monkeypatch: pytest.MonkeyPatch
):
    waiting = [wanted(ada, spark, name="one"), wanted(ada, spark, name="two")]
    again: list[dict[str, object]] = []
    monkeypatch.setattr(tasks.fetch, "apply_async", lambda **how: again.append(how))
    for left in (1, 0):
        tasks.fetch()
        assert len(again) == 2 - left
        states = [Adapter.objects.get(id=adapter.id).state for adapter in waiting]
        assert states.count("uploading") == left
    tasks.fetch()
    assert len(again) == 2


def test_the_sweep_wakes_what_is_due_and_a_busy_worker_leaves(
    hub: Hub, ada: Customer, spark: Model, monkeypatch: pytest.MonkeyPatch
):
    again: list[dict[str, object]] = []
    monkeypatch.setattr(tasks.fetch, "apply_async", lambda **how: again.append(how))
    adapter = wanted(ada, spark)
    tasks.sweep()
    assert again == [{"expires": tasks.EXPIRES_S}]
    with tasks._fetch_turn:
        tasks.fetch()
    assert hub.calls == [] and len(again) == 1
    HubFetch.objects.filter(adapter=adapter).update(due_at=now() + timedelta(minutes=1))
    tasks.sweep()
    tasks.fetch()
    assert hub.calls == [] and len(again) == 1


def test_a_full_disk_is_told_before_any_file_and_waited_for(
    hub: Hub, ada: Customer, spark: Model, monkeypatch: pytest.MonkeyPatch
):
    adapter = wanted(ada, spark)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as full:
        full.setattr(storage.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
        adapter = stepped(adapter)
    assert adapter.state == "uploading" and "no space left" in adapter.reason
    assert hub.fetched() == []
    assert stepped(adapter).state == "validating"


def test_an_upload_that_somebody_else_writes_waits_a_moment(hub: Hub, ada: Customer, spark: Model):
    adapter = wanted(ada, spark)
    with storage.upload_locked(adapter.id):
        adapter = stepped(adapter)
    assert (adapter.state, adapter.reason) == ("uploading", "Waiting for a worker.")
    assert hub.calls == [] and fetch_of(adapter).failures == 0
    assert stepped(adapter).state == "validating"
