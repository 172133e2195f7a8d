"""The engine's two processes: start, idle, drain, and every way either can die."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_engine.starter import SPARK_PATH
from kindling_engine_process import EngineProcess, ask, cpu_s, is_alive, wait_until

LONG = {"max_tokens": 900, "ignore_eos": True, "n": 8}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """As the agent starts it; the others are forks of a process that has loaded torch."""
    with EngineProcess(tmp_path_factory.mktemp("program"), forked=False) as started:
        yield started


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path) as started:
        yield started


def stream(engine: EngineProcess, got_first: threading.Event, result: list[bytes], **fields: Any) -> None:
    url, body = f"{engine.url}/v1/chat/completions", ask(stream=True, **fields)
    # An engine that is killed hangs up.
    with (
        contextlib.suppress(httpx.RemoteProtocolError),
        httpx.stream("POST", url, json=body, headers=engine.headers(), timeout=60) as reply,
    ):
        for part in reply.iter_raw():
            result.append(part)
            got_first.set()


def streaming(engine: EngineProcess, **fields: Any) -> tuple[threading.Thread, list[bytes]]:
    """A stream under way in a thread."""
    first, result = threading.Event(), []
    thread = threading.Thread(target=stream, args=(engine, first, result), kwargs=fields, daemon=True)
    thread.start()
    assert first.wait(60)
    return thread, result


def test_ready_means_that_it_answers(program: EngineProcess):
    # A slow start says so on the way.
    ready = next(event for event in program.events if event["event"] != "loading")
    assert ready == {"event": "ready", "port": program.port, "pid": program.pid}
    assert program.chat(max_tokens=4).status_code == 200
    assert httpx.get(f"{program.url}/healthz", timeout=60).json()["status"] == "ready"


def test_the_front_loads_no_torch_and_neither_process_spins(program: EngineProcess):
    assert "libtorch" not in Path(f"/proc/{program.pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{program.core_pid}/maps").read_text()
    wait_until(lambda: sum(map(cpu_s, (program.pid, program.core_pid))) > 0)
    before = [cpu_s(program.pid), cpu_s(program.core_pid)]
    time.sleep(1)  # whoever spins takes all of it, or its share of a busy machine
    assert cpu_s(program.pid) - before[0] < 0.2
    assert cpu_s(program.core_pid) - before[1] < 0.2


def test_a_polite_signal_lets_running_requests_end(engine: EngineProcess):
    thread, result = streaming(engine, max_tokens=100, ignore_eos=True)
    os.kill(engine.pid, signal.SIGTERM)
    assert engine.wait_exit() == 0
    thread.join(60)
    assert b"".join(result).endswith(b"[DONE]\n\n")
    assert [record.finish for record in engine.records()] == ["length"]


def test_a_polite_signal_while_idle_ends_both(engine: EngineProcess):
    core = engine.core_pid
    os.kill(engine.pid, signal.SIGTERM)
    assert engine.wait_exit() == 0
    assert not is_alive(core)


def test_a_dead_core_fails_what_runs_and_ends_the_front(engine: EngineProcess):
    thread, result = streaming(engine, **LONG)
    os.kill(engine.core_pid, signal.SIGKILL)
    assert engine.wait_exit() == 70
    thread.join(60)
    assert b'"code":"engine_unavailable"' in b"".join(result)
    assert [(record.finish, record.billable) for record in engine.records()] == [("error", False)]


def test_a_dead_front_takes_its_core_along_and_loses_no_record(engine: EngineProcess):
    core = engine.core_pid
    ids = [engine.chat(max_tokens=2).headers["x-request-id"] for _ in range(3)]
    streaming(engine, **LONG)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait_exit()
    wait_until(lambda: not is_alive(core))
    assert [record.request_id for record in engine.records()] == ids
    # A new life goes on in the same log.
    with EngineProcess(engine.folder) as again:
        again.chat(max_tokens=2)
        assert len(again.records()) == 4


def test_an_engine_dies_with_whoever_started_it(tmp_path: Path):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from kindling_engine_process import EngineProcess\n"
        "engine = EngineProcess(Path(sys.argv[2]), forked=False); engine.start(); engine.wait_ready()\n"
        "print(engine.pid, engine.core_pid, flush=True); time.sleep(60)\n"
    )
    support = str(Path(__file__).parents[1] / "support")
    parent = subprocess.Popen(
        [sys.executable, "-c", script, support, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not any(map(is_alive, pids)))


def broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"nonsense")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% if %}")


@pytest.mark.parametrize("spoil", [broken_weights, no_tokenizer, no_config, broken_template])
def test_a_model_that_cannot_be_served_is_said_in_words(tmp_path: Path, spoil: Any):
    model = tmp_path / "model"
    shutil.copytree(SPARK_PATH, model)
    spoil(model)
    engine = EngineProcess(tmp_path, model=model)
    engine.start()
    said = engine.read_event()
    assert engine.wait_exit() == 1
    engine.kill()
    assert said["event"] == "failed"
    assert said["code"]
    assert said["message"].endswith(".")


def test_the_usage_log_has_one_writer(program: EngineProcess):
    second = EngineProcess(program.folder)
    second.start()
    assert second.read_event()["event"] == "failed"
    assert second.wait_exit() == 1
    second.kill()
    assert program.chat(max_tokens=1).status_code == 200


def test_no_prompt_reaches_the_logs(engine: EngineProcess):
    secret = "the-password-is-swordfish"
    engine.chat(messages=[{"role": "user", "content": secret}], max_tokens=3)
    engine.chat(messages=[{"role": "user", "content": secret}], temperature=secret)
    os.kill(engine.pid, signal.SIGTERM)
    engine.wait_exit()
    assert secret not in (engine.folder / "stderr").read_text()
    assert secret.encode() not in engine.usage_log.read_bytes()
    assert "ready" in [event["event"] for event in engine.events]
    assert secret not in json.dumps(engine.events)
