"""The core's messages: grants, cancellation, adapters that load late or not at all, refusals."""

import logging
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_core_rig import GREEDY, Rig, rig_make
from kindling_engine.core import adapters as desk
from kindling_engine.lora import loading
from kindling_engine.protocol.adapter_report import ENGINE_FAILED
from kindling_engine.protocol.ipc import (
    AdapterList,
    AdapterLoaded,
    Cancel,
    ListAdapters,
    LoadAdapter,
    Sampling,
    SetGrant,
    Stats,
)
from kindling_tiny_models import VOCAB, adapter_make, model_make


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_make("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def blobs(model, tmp_path_factory):
    """Adapters: a good one, one with NaN, one that changes nothing, one that overflows, one of another shape."""
    folder = tmp_path_factory.mktemp("blobs")
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
    for name in ("good", "other", "nan", "zero", "huge"):
        adapter_make(model, folder / name, **config)
    _edit(folder / "nan", lambda name, tensor: tensor * float("nan"))
    _edit(folder / "zero", lambda name, tensor: tensor * 0 if "lora_B" in name else tensor)
    _edit(folder / "huge", lambda name, tensor: tensor * 1e30)
    wide = model_make("llama", folder / "wide-model", hidden_size=96)
    adapter_make(wide, folder / "misfit", **config)
    return folder


@pytest.fixture
def rig(model, blobs) -> Rig:
    return rig_make(model, blobs)


def _edit(folder, change) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path)


def test_ready_describes_the_model(rig):
    ready = rig.core.ready()
    assert (ready.context_length, ready.vocab_size, ready.eos_ids) == (512, VOCAB, [2])
    assert (ready.device, ready.dtype) == ("cpu", "float32")
    assert ready.kv_blocks == rig.core._current_stats().free_blocks


def test_a_request_streams_its_tokens_and_ends(rig):
    rig.submit("a", [5, 6, 7], max_tokens=3)
    rig.run_until("a")
    items = [item for item in rig.items() if item.id == "a"]
    assert [len(item.token_ids) for item in items] == [1, 1, 1]
    assert [item.finish for item in items] == ["", "", "length"]
    assert (items[0].prompt_tokens, items[0].cached_tokens) == (3, 0) and items[0].queue_ms >= 0


def test_parks_at_the_grant_and_a_raised_grant_changes_no_token(rig):
    rig.submit("free", [5, 6, 7], max_tokens=10)
    rig.run_until("free")
    rig.submit("held", [5, 6, 7], max_tokens=10, grant=4)
    rig.wait(lambda: any(item.parked for item in rig.items()))
    for _ in range(5):
        rig.turn()
    assert len(rig.tokens("held")) == 4
    rig.turn(SetGrant("held", 4), SetGrant("held", 3))
    assert len(rig.tokens("held")) == 4
    rig.turn(SetGrant("held", 10))
    rig.run_until("held")
    assert rig.tokens("held") == rig.tokens("free")


def test_without_a_grant_the_request_ends_after_two_seconds(rig):
    rig.submit("a", [5, 6, 7], max_tokens=10, grant=2)
    rig.wait(lambda: any(item.parked for item in rig.items()))
    assert rig.core._sleep_s(rig.clock_s) <= 1.0, "the core's figures are still to be sent"
    rig.clock_s += 1.0
    rig.turn()
    assert 0.9 < rig.core._sleep_s(rig.clock_s) < 1.1, "the core sleeps until the deadline"
    rig.clock_s += 0.9
    rig.turn()
    assert rig.end("a") is None
    rig.clock_s += 0.2
    rig.turn()
    assert rig.end("a").finish == "grant_refused"
    assert rig.core._current_stats().active == 0


def test_cancel_ends_within_one_step(rig):
    rig.submit("a", [5, 6, 7], max_tokens=400)
    rig.submit("b", [5, 6, 7], max_tokens=20)
    rig.turn(Cancel("a"))
    assert rig.end("a").finish == "cancelled"
    made = len(rig.tokens("a"))
    rig.turn(Cancel("a"), Cancel("never-there"))
    rig.run_until("b")
    assert len(rig.tokens("a")) == made
    assert [item.finish for item in rig.items() if item.id == "a"].count("cancelled") == 1


def test_nothing_to_do_means_sleep_without_end(rig):
    rig.submit("a", [5], max_tokens=5)
    rig.run_until("a")
    assert 0 < rig.core._sleep_s(rig.clock_s) < 1, "one more message is due: that nothing runs any more"
    rig.clock_s += 1.1
    rig.turn()
    assert [message.active for message in rig.answers(Stats)] == [1, 0]
    assert rig.core._sleep_s(rig.clock_s) is None


def test_the_core_sleeps_while_what_waits_cannot_be_placed(model, blobs):
    rig = rig_make(model, blobs, kv_tokens=96)
    kv = rig.core._parts.kv
    kv.loans.limit = kv.pool.capacity
    lent = kv.lend(kv.loans.room(), cached=True)
    rig.submit("parked", [5, 6, 7], grant=0)
    rig.submit("stuck", [8] * 90, max_tokens=2)
    assert rig.core._sleep_s(rig.clock_s) == 0, "an adapter's users may still step back for it"
    for _ in range(20):
        rig.turn()
    assert 0 < rig.core._sleep_s(rig.clock_s) <= 0.25
    rig.clock_s += 1.9
    rig.turn()
    assert 0 < rig.core._sleep_s(rig.clock_s) < 0.1, "the other's grant is late then, which may change things"
    kv.take_back(lent)
    rig.turn()
    assert rig.tokens("stuck") and rig.core._sleep_s(rig.clock_s) == 0
    rig.run_until("stuck")


@pytest.mark.parametrize("name", ["nan", "misfit", "absent"])
def test_an_adapter_that_does_not_load_fails_its_own_requests_only(rig, name):
    rig.submit("base", [5, 6], max_tokens=60)
    rig.submit("bad1", [5, 6], adapter=name)
    rig.submit("bad2", [5, 6], adapter=name)
    rig.submit("good", [5, 6], adapter="good")
    rig.run_until("base", "bad1", "bad2", "good")
    assert {rig.end(bad).error_code for bad in ("bad1", "bad2")} == {"adapter_load_failed"}
    assert rig.end("bad1").finish == "error" and rig.end("bad1").error and rig.tokens("bad1") == []
    assert (rig.end("base").finish, rig.end("good").finish) == ("length", "length")
    rig.submit("later", [5, 6], max_tokens=2)
    rig.run_until("later")


def test_an_adapter_name_cannot_leave_the_blob_folder(rig):
    rig.submit("a", [5], adapter="../good")
    rig.turn(LoadAdapter("l", "../good", ""))
    assert rig.end("a").error_code == "adapter_load_failed"
    assert rig.answers(AdapterLoaded)[0].code == "files"
    assert desk._NAME.fullmatch("a" * 64)


def test_neighbours_run_on_while_an_adapter_loads(model, blobs, monkeypatch):
    import threading

    gate = threading.Event()
    read = loading.LoaderThread._read

    def slowly(loader, adapter, folder):
        gate.wait(60)
        return read(loader, adapter, folder)

    monkeypatch.setattr(loading.LoaderThread, "_read", slowly)
    rig = rig_make(model, blobs)
    rig.submit("cold", [5, 6], adapter="good", max_tokens=3)
    rig.submit("gone", [5, 6], adapter="good", max_tokens=3)
    rig.submit("base", [5, 6], max_tokens=30)
    rig.run_until("base")
    assert rig.end("cold") is None
    rig.turn(Cancel("gone"), SetGrant("cold", 9))
    assert rig.end("gone").finish == "cancelled"
    gate.set()
    rig.run_until("cold")
    assert len(rig.tokens("cold")) == 3
    rig.turn(ListAdapters("l"))
    assert [(item.adapter, item.in_use) for item in rig.answers(AdapterList)[0].items] == [("good", 0)]


def test_an_adapter_that_overflows_harms_nobody(model, blobs):
    """Its rows are not finite; the blocks they leave must not poison the next owner through masked positions.

    Two rows of different length share a batch, so that the shorter one's last block is read beyond its end.
    """
    prompts = {"short": [5, 6, 7], "long": [8] * 14}
    calm, shaken = (rig_make(model, blobs, kv_tokens=96) for _ in range(2))
    shaken.submit("bad", [5, 6, 7] * 30, adapter="huge", max_tokens=2)
    shaken.run_until("bad")
    assert (shaken.end("bad").finish, shaken.end("bad").error_code) == ("error", "non_finite_logits")
    for rig in (calm, shaken):
        for name, prompt in prompts.items():
            rig.submit(name, prompt, max_tokens=25)
        rig.run_until(*prompts)
    assert {name: calm.tokens(name) for name in prompts} == {name: shaken.tokens(name) for name in prompts}
    assert all(len(calm.tokens(name)) == 25 for name in prompts)


def _check(rig: Rig, name: str) -> AdapterLoaded:
    rig.turn(LoadAdapter(f"c-{name}", name, "", check=True))
    rig.wait(lambda: any(answer.id == f"c-{name}" for answer in rig.answers(AdapterLoaded)))
    return next(answer for answer in rig.answers(AdapterLoaded) if answer.id == f"c-{name}")


def test_check_generates_and_measures_the_shift(rig):
    answer = _check(rig, "good")
    assert answer.ok and len(answer.smoke_ids) == 8
    levels = {finding.check: finding.level for finding in answer.findings}
    assert levels["values"] == levels["smoke"] == levels["tensor_shapes"] == "pass"
    assert rig.core._current_stats().active == 0
    assert not list(rig.items()), "the front hears nothing of the test's own requests"
    assert _check(rig, "good").smoke_ids == answer.smoke_ids


def test_check_warns_of_an_adapter_that_changes_nothing(rig):
    answer = _check(rig, "zero")
    assert answer.ok
    assert {f.check: f.level for f in answer.findings} | {"values": "warn", "smoke": "warn"} == {
        f.check: f.level for f in answer.findings
    }


@pytest.mark.parametrize(
    ("name", "code"), [("nan", "values"), ("misfit", "tensor_shapes"), ("absent", "files"), ("huge", "smoke")]
)
def test_check_names_what_failed(rig, name, code):
    answer = _check(rig, name)
    assert not answer.ok and answer.code == code and answer.reason
    assert [finding.check for finding in answer.findings if finding.level == "fail"] == [code]


def _no_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize("place", ["step", "load"])
def test_check_tells_apart_what_the_engine_failed_in(blobs, model, monkeypatch, place):
    rig = rig_make(model, blobs)
    if place == "step":
        monkeypatch.setattr(type(rig.core._parts.runner), "execute", _no_memory)
    else:
        monkeypatch.setattr("kindling_engine.lora.loading.LoaderThread._read", _no_memory)
    answer = _check(rig, "good")
    assert (answer.ok, answer.code) == (False, ENGINE_FAILED)
    assert answer.reason


def test_prefetch_loads_without_generating(rig, blobs, tmp_path):
    shutil.copytree(blobs / "good", tmp_path / "elsewhere")
    rig.turn(LoadAdapter("p", "prefetched", str(tmp_path / "elsewhere")))
    rig.wait(lambda: rig.answers(AdapterLoaded))
    answer = rig.answers(AdapterLoaded)[0]
    assert answer.ok and answer.smoke_ids == []
    rig.turn(ListAdapters("l"))
    (item,) = rig.answers(AdapterList)[0].items
    assert (item.adapter, item.state, item.tier, item.rank, item.in_use) == (
        "prefetched",
        "ready",
        "host",
        4,
        0,
    )
    assert item.size_bytes > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [VOCAB]},
        {"prompt": [-1]},
        {"prompt": []},
        {"prompt": [1] * 512},
        {"logprobs": 21},
        {"max_tokens": 0},
        {"sampling": Sampling(temperature=float("nan"))},
        {"sampling": Sampling(top_p=1.5)},
        {"sampling": Sampling(logit_bias={VOCAB: 1.0})},
        {"sampling": Sampling(repetition_penalty=0.0)},
    ],
)
def test_what_would_hurt_the_loop_is_refused(rig, fields):
    rig.submit("bad", fields.pop("prompt", [5]), **fields)
    assert rig.end("bad").finish == "error"
    assert rig.end("bad").error_code in ("invalid_value", "context_length_exceeded")
    rig.submit("fine", [5], max_tokens=2)
    rig.run_until("fine")


def test_an_id_in_use_is_refused_and_the_first_goes_on(rig):
    rig.submit("a", [5], max_tokens=5)
    rig.submit("a", [5], max_tokens=5)
    rig.wait(lambda: [item.finish for item in rig.items()].count("length") == 1)
    assert [item.error_code for item in rig.items() if item.finish == "error"] == ["duplicate_request"]


def test_logprobs_come_with_each_token(rig):
    rig.submit("a", [5, 6], max_tokens=2, logprobs=4, sampling=GREEDY)
    rig.run_until("a")
    for item in rig.items():
        ((entry),) = item.logprobs
        assert len(entry.top) == 4 and entry.top[0][0] == item.token_ids[0]
        assert entry.top[0][1] == pytest.approx(entry.logprob, abs=1e-5) and entry.logprob <= 0


def test_a_failed_step_ends_its_requests_and_the_next_ones_run(rig, monkeypatch):
    rig.submit("before", [5, 6], max_tokens=30)
    execute = rig.core._parts.runner.execute
    failing = iter([True])

    def broken(plan):
        if next(failing, False):
            raise torch.OutOfMemoryError("no memory")
        return execute(plan)

    monkeypatch.setattr(type(rig.core._parts.runner), "execute", lambda self, plan: broken(plan))
    rig.turn()
    assert (rig.end("before").finish, rig.end("before").error_code) == ("error", "engine_step_failed")
    rig.submit("after", [5, 6], max_tokens=3)
    rig.run_until("after")
    assert rig.end("after").finish == "length"


def test_what_a_failed_step_had_computed_is_gone_when_its_rows_run_again(rig, monkeypatch, caplog):
    """It may have failed for want of that memory."""
    caplog.set_level(logging.CRITICAL)
    for name in ("bad", "good"):
        rig.submit(name, [5, 6], max_tokens=9)
    execute = rig.core._parts.runner.execute
    computed, alive, counts = [], [], []

    def broken(_runner, plan):
        alive.append(any(one() is not None for one in computed))
        own = torch.zeros(1)
        computed.append(weakref.ref(own))
        counts.append(len(plan.rows))
        if len(plan.rows) > 1 or plan.rows[0].request.id == "bad":
            raise torch.OutOfMemoryError("no memory")
        return execute(plan)

    monkeypatch.setattr(type(rig.core._parts.runner), "execute", broken)
    rig.run_until("bad", "good")
    assert (rig.end("bad").finish, rig.end("good").finish) == ("error", "length")
    assert counts[:3] == [2, 1, 1] and not any(alive)
