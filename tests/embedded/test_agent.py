"""The agent with real processes: engines live on their own terms, the agent keeps them as told."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kindling_engine.protocol.control_groups import ControlGroups
from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_nursery import Forked
from kindling_platform.embedded.ports import PortHold, hold_port, is_answering
from kindling_workers.agent import replica, replicas
from kindling_workers.agent.engine import engine_env
from kindling_workers.agent.errors import AgentError
from kindling_workers.agent.places import Places
from kindling_workers.agent.replica import Replica
from kindling_workers.agent.replicas import Replicas

ENGINE = Path(__file__).parents[1] / "support" / "kindling_tiny_engine.py"
TOKEN = "a-token-of-this-test"


class Agent:
    """An agent process on a folder of its own, and a client for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.hold = hold_port()
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.hold.port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        self.start()

    def start(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.process = Forked(
            *("kindling_workers.agent", "--home", str(self.home), "--port", str(self.hold.port)),
            *("--engine", f"{sys.executable} {ENGINE}", "--drain-s", "1"),
            log=self.home / "agent.log",
            KINDLING_AGENT_TOKEN=TOKEN,
        )
        wait(lambda: is_answering(self.hold.port), bool)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)

    def put(
        self, model: Path, *, name: str = "dep_a-1-0", generation: int = 1, **more: str
    ) -> httpx.Response:
        spec = {
            "name": name, "deployment_id": "dep_a", "generation": generation,
            "model_path": str(model), "model_ref": "kindling/spark", **more,
        }  # fmt: skip
        return self.http.put(f"/replicas/{name}", json=spec)

    def get(self, name: str = "dep_a-1-0") -> dict[str, Any]:
        return dict(self.http.get(f"/replicas/{name}").raise_for_status().json())

    def wait_state(self, state: str, name: str = "dep_a-1-0") -> dict[str, Any]:
        return wait(lambda: self.get(name), lambda seen: seen["state"] == state)


def wait(read: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not good(value := read()):
        assert time.monotonic() < deadline, value
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> None:
    wait(lambda: is_alive(pid), lambda alive: not alive)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    running = Agent(tmp_path / "home")
    yield running
    if running.process.poll() is None:
        running.stop()
    running.http.close()
    running.hold.release()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def test_ensure_starts_an_engine_once(agent: Agent, model: Path):
    assert agent.put(model).json()["state"] == "starting"
    ready = agent.wait_state("ready")
    assert ready["generation"] == 1 and ready["restarts"] == 0 and ready["ready_ms"] > 0
    assert is_answering(int(ready["url"].rsplit(":", 1)[1]))
    assert agent.put(model).json() == ready
    assert agent.http.get("/replicas").json()["replicas"] == [ready]


def test_newer_generation_replaces_the_engine_and_an_older_is_refused(agent: Agent, model: Path):
    agent.put(model)
    old = agent.wait_state("ready")
    assert (model / "weights").read_text() == "checkpoint"
    assert (model / "kv_dtype").read_text() == ""
    agent.put(model, generation=2, weights="int8wo", kv_dtype="fp8")
    new = agent.wait_state("ready")
    assert [(model / name).read_text() for name in ("weights", "kv_dtype")] == ["int8wo", "fp8"]
    assert new["generation"] == 2 and new["pid"] != old["pid"] and not is_alive(old["pid"])
    refused = agent.put(model, generation=1)
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "stale_generation"


def test_killed_engine_comes_back_at_its_address_under_its_generation(agent: Agent, model: Path):
    agent.put(model)
    first = agent.wait_state("ready")
    core = int((model / "core").read_text())
    os.kill(first["pid"], signal.SIGKILL)
    second = wait(agent.get, lambda seen: seen["state"] == "ready" and seen["pid"] != first["pid"])
    assert second["restarts"] == 1 and second["generation"] == 1
    assert second["url"] == first["url"]
    wait_gone(core)
    assert "a word from life 1" in agent.http.get("/replicas/dep_a-1-0/logs?tail=3").text
    with (agent.home / "logs/dep_a-1-0.log").open("a") as log:
        log.write("refused kd_live_0123456789abcdef at postgresql://me:secret@host/db\n")
    shown = agent.http.get("/replicas/dep_a-1-0/logs?tail=3").text
    assert "refused …" in shown and "secret" not in shown and "0123456789abcdef" not in shown


def test_delete_ends_the_engine_and_its_core_and_keeps_the_usage_log(agent: Agent, model: Path):
    agent.put(model)
    pid, core = agent.wait_state("ready")["pid"], int((model / "core").read_text())
    assert agent.http.delete("/replicas/dep_a-1-0").status_code == 204
    wait_gone(pid)
    wait_gone(core)
    assert agent.http.get("/replicas/dep_a-1-0").status_code == 404
    assert agent.http.delete("/replicas/dep_a-1-0").status_code == 204
    usage = agent.http.get("/replicas/dep_a-1-0/usage").json()
    assert [record["request_id"] for record in usage["records"]] == ["request-0"]
    assert [log["replica"] for log in agent.http.get("/usage").json()["logs"]] == ["dep_a-1-0"]


def test_deaf_engine_is_ended_all_the_same(agent: Agent, model: Path):
    (model / "mode").write_text("deaf")
    agent.put(model)
    pid = agent.wait_state("ready")["pid"]
    agent.http.delete("/replicas/dep_a-1-0", timeout=30)
    assert not is_alive(pid)


def test_usage_is_read_in_pages_while_the_engine_is_dead(agent: Agent, model: Path):
    agent.put(model)
    first = agent.wait_state("ready")
    os.kill(first["pid"], signal.SIGKILL)
    wait(agent.get, lambda seen: seen["state"] == "ready" and seen["restarts"] == 1)
    (model / "mode").write_text("die")
    os.kill(agent.get()["pid"], signal.SIGKILL)
    agent.wait_state("failed")
    page = agent.http.get("/replicas/dep_a-1-0/usage?limit=1").json()
    rest = agent.http.get(f"/replicas/dep_a-1-0/usage?after={page['next']}").json()
    seen = [record["request_id"] for record in page["records"] + rest["records"]]
    assert seen == ["request-0", "request-1"]
    assert page["log"] == rest["log"] != ""


def test_usage_of_an_unknown_replica_is_empty(agent: Agent):
    assert agent.http.get("/replicas/never/usage").json() == {"log": "", "records": [], "next": 0}


def test_engine_that_never_starts_is_reported_with_its_reason_and_recovers(agent: Agent, model: Path):
    (model / "mode").write_text("refuse")
    agent.put(model)
    failed = agent.wait_state("failed")
    # Not at once: it did not say that the model is at fault.
    assert failed["reason"] == "The model is broken." and failed["restarts"] >= 2
    (model / "mode").write_text("die")
    wait(agent.get, lambda seen: "no such model" in seen["reason"])
    (model / "mode").unlink()
    assert agent.wait_state("ready")["reason"] == ""


def test_killed_agent_leaves_no_engine_and_the_next_one_restores_it(agent: Agent, model: Path):
    agent.put(model)
    before = agent.wait_state("ready")
    agent.stop(signal.SIGKILL)
    wait_gone(before["pid"])
    agent.start()
    after = agent.wait_state("ready")
    assert after["generation"] == 1 and after["url"] == before["url"] and after["pid"] != before["pid"]


def test_stopped_agent_ends_its_engines_in_order(agent: Agent, model: Path):
    agent.put(model)
    pid = agent.wait_state("ready")["pid"]
    agent.stop()
    assert agent.process.returncode == 0 and not is_alive(pid)


def test_engine_sees_no_setting_of_the_platform(agent: Agent, model: Path):
    agent.put(model)
    agent.wait_state("ready")
    names = (model / "environ").read_text().splitlines()
    assert "PATH" in names
    assert [name for name in names if name.startswith(("KINDLING_", "DJANGO_"))] == []


def test_requests_without_the_token_are_refused(agent: Agent, model: Path):
    agent.http.headers["Authorization"] = "Bearer wrong"
    refused = agent.put(model)
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_token"
    assert agent.http.get("/healthz").status_code == 200
    assert agent.http.get("/host").status_code == 401


@pytest.mark.parametrize("name", ["%2e%2e", "a%2Fb", "-x", "a" * 200])
def test_names_that_could_leave_the_folder_are_refused(agent: Agent, name: str):
    reply = agent.http.get(f"/replicas/{name}/usage")
    assert reply.status_code in {400, 404}
    assert "records" not in reply.text


def test_descriptions_that_are_not_right_are_refused(agent: Agent, model: Path):
    wrong = agent.http.put("/replicas/x", content=json.dumps({"name": "x"}))
    assert wrong.status_code == 400 and wrong.json()["error"]["code"] == "invalid_spec"
    other = agent.http.put("/replicas/y", json=agent_spec("x", model))
    assert other.status_code == 400 and other.json()["error"]["code"] == "invalid_spec"


def agent_spec(name: str, model: Path) -> dict[str, Any]:
    return {
        "name": name, "deployment_id": "d", "generation": 1, "model_path": str(model), "model_ref": "a/b"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cores", "given", "threads", "seen"),
    [
        (2, {}, 0, None), (8, {}, 0, "7"), (8, {"OMP_NUM_THREADS": "3"}, 0, "3"), (8, {}, 4, "4"),
        (2, {"OMP_NUM_THREADS": "1"}, 0, "1"),
    ],
)  # fmt: skip
def test_an_engine_measures_its_threads_and_leaves_a_core_to_the_platform(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: dict[str, str], threads: int, seen: str | None
):
    monkeypatch.setattr(ControlGroups, "cores", lambda self: cores)
    spec = ReplicaSpec("r", "d", 1, "/m", "m", threads=threads)
    assert engine_env(spec, {"PATH": "/bin", **given}).get("OMP_NUM_THREADS") == seen
    assert ReplicaSpec("r", "d", 1, "/m", "m").threads == 0


class Draining:
    """A replica whose engine finishes its streams until it is let go."""

    def __init__(self, *, spec: ReplicaSpec, hold: PortHold, **_: Any) -> None:
        self.spec, self.hold = spec, hold
        self.done = asyncio.Event()

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        await self.done.wait()

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(name=self.spec.name, generation=self.spec.generation, state="ready")


def described(name: str, *, generation: int = 1) -> ReplicaSpec:
    return ReplicaSpec(name, "dep_a", generation, "/m", "kindling/spark")


async def test_an_engine_that_drains_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas, "Replica", Draining)
    home = Replicas(Places(tmp_path))
    for name in ("a", "b"):
        await home.ensure(described(name))
    old = home._running["a"]
    leaving = asyncio.ensure_future(home.delete("a"))
    replacing = asyncio.ensure_future(home.ensure(described("a", generation=2)))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert (await home.ensure(described("b"))).generation == 1
        assert (await home.ensure(described("c"))).generation == 1
    assert not leaving.done() and not replacing.done(), "what is done to one name waits for its turn"
    old.done.set()
    await leaving
    assert (await replacing).generation == 2
    for running in home._running.values():
        running.done.set()
    await home.stop_all()
    assert home.list() == []


async def test_an_agent_that_stops_starts_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas, "Replica", Draining)
    home = Replicas(Places(tmp_path))
    await home.ensure(described("a"))
    old = home._running["a"]
    replacing = asyncio.ensure_future(home.ensure(described("a", generation=2)))
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(home.stop_all())
    await asyncio.sleep(0)
    old.done.set()
    await stopping
    with pytest.raises(AgentError, match="stopping"):
        await replacing
    assert home.list() == []


class Undying:
    """A process in the kernel's hands, which nothing ends."""

    pid = 2**30

    def poll(self) -> None:
        return None

    def terminate(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> int:
        pytest.fail("waited without an end")


async def test_an_engine_that_cannot_be_ended_stops_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replica, "KILLED_WITHIN_S", 0)
    hold = hold_port()
    stuck = Replica(
        spec=described("a"), places=Places(tmp_path), hold=hold, engine=(), drain_s=0,
        process=Undying(),  # type: ignore[arg-type]
    )  # fmt: skip
    await stuck.stop()
    hold.release()
    assert stuck.status().state == "stopped"
