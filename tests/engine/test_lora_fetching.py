"""Adapters that are not on this disk: asked for beside the steps, and nobody else waits for them or fails with them."""

import hashlib
import shutil
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from kindling_core_rig import Rig, rig_make
from kindling_engine.protocol.ipc import AdapterList, AdapterLoaded, AdapterState, ListAdapters, LoadAdapter
from kindling_tiny_models import adapter_make, model_make

PROMPT = list(range(5, 45))


def hash_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Source(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An agent: brings a folder of `far` to `blobs` when it may, or says `why` not."""

    daemon_threads = True

    def __init__(self, path: Path, far: Path, blobs: Path) -> None:
        super().__init__(str(path), Answer)
        self.far, self.blobs, self.why, self.brings = far, blobs, "", True
        self.go_on = threading.Event()
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    server: Source

    def address_string(self) -> str:
        return "engine"

    def do_POST(self) -> None:
        source, name = self.server, self.path.removeprefix("/blobs/")
        source.asked.append(name)
        source.go_on.wait(60)
        if not source.why and source.brings and not (source.blobs / name).exists():
            shutil.copytree(source.far / name, source.blobs / name)
        body = b'{"error": {"message": "%s"}}' % source.why.encode() if source.why else b'{"ok": true}'
        self.send_response(503 if source.why else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and adapters far away."""
    folder = tmp_path_factory.mktemp("far")
    model = model_make("llama", folder / "model")
    for index in range(6):
        adapter_make(
            model, folder / "far" / hash_of(f"a{index}"), seed=index, r=4, target_modules=["q_proj", "v_proj"]
        )
    return model, folder / "far"


@pytest.fixture
def source(world: tuple[Path, Path], tmp_path: Path) -> Iterator[Source]:
    (tmp_path / "blobs").mkdir()
    running = Source(tmp_path / "s", world[1], tmp_path / "blobs")
    yield running
    running.go_on.set()
    running.shutdown()
    running.server_close()


def rig_of(world: tuple[Path, Path], source: Source) -> Rig:
    return rig_make(world[0], source.blobs, blob_source=Path(str(source.server_address)))


def states(rig: Rig) -> dict[str, AdapterState]:
    rig.turn(ListAdapters("s"))
    return {state.adapter: state for state in rig.answers(AdapterList)[-1].items}


def test_neighbours_run_while_five_are_on_their_way(world: tuple[Path, Path], source: Source):
    here = hash_of("a0")
    shutil.copytree(world[1] / here, source.blobs / here)
    rig = rig_of(world, source)
    away = [hash_of(f"a{index}") for index in range(1, 6)]
    for name in away:
        rig.submit(name, PROMPT, adapter=name, max_tokens=4)
    rig.wait(lambda: sum(state.state == "fetching" for state in states(rig).values()) == 5)
    assert {(states(rig)[name].state, states(rig)[name].tier) for name in away} == {("fetching", "store")}
    rig.submit("near", PROMPT, adapter=here, max_tokens=8)
    rig.submit("base", PROMPT, max_tokens=8)
    rig.run_until("near", "base")
    assert [len(rig.tokens(name)) for name in ("near", "base")] == [8, 8]
    assert not any(rig.end(name) for name in away)
    source.go_on.set()
    rig.run_until(*away)
    assert {rig.end(name).finish for name in away} == {"length"}
    assert sorted(source.asked) == sorted(away), "each is asked for once"
    stats = rig.core._current_stats()
    assert (stats.adapter_fetches, stats.adapter_fetch_failures) == (5, 0)
    plain = rig_make(world[0], world[1])
    plain.submit("same", PROMPT, adapter=away[0], max_tokens=4)
    plain.run_until("same")
    assert plain.tokens("same") == rig.tokens(away[0])


def test_one_that_does_not_come_fails_its_own_requests_alone(world: tuple[Path, Path], source: Source):
    source.go_on.set()
    source.why = "The object store does not answer."
    rig, name = rig_of(world, source), hash_of("a1")
    rig.submit("bad", PROMPT, adapter=name, max_tokens=8)
    rig.submit("base", PROMPT, max_tokens=8)
    rig.run_until("bad", "base")
    bad = rig.end("bad")
    assert (bad.finish, bad.error_code) == ("error", "adapter_load_failed")
    assert bad.error == "The adapter's files could not be fetched: The object store does not answer."
    assert rig.end("base").finish == "length"
    state = states(rig)[name]
    assert (state.state, state.tier, state.reason) == ("failed", "store", bad.error)
    rig.turn(LoadAdapter("check", name, "", check=True))
    rig.wait(lambda: rig.answers(AdapterLoaded))
    assert (rig.answers(AdapterLoaded)[0].ok, rig.answers(AdapterLoaded)[0].code) == (False, "fetch")
    source.why = ""
    rig.submit("again", PROMPT, adapter=name, max_tokens=8)
    rig.run_until("again")
    assert rig.end("again").finish == "length"


def test_a_source_that_lies_or_is_gone_is_told_of(world: tuple[Path, Path], source: Source, tmp_path: Path):
    source.go_on.set()
    source.brings = False
    rig = rig_of(world, source)
    rig.submit("lied", PROMPT, adapter=hash_of("a2"), max_tokens=2)
    rig.submit("named", PROMPT, adapter="not-a-hash", max_tokens=2)
    rig.run_until("lied", "named")
    assert rig.end("lied").error.endswith("They are not where they were brought to.")
    assert rig.end("named").error_code == "adapter_load_failed"
    assert source.asked == [hash_of("a2")]
    lonely = rig_make(world[0], source.blobs, blob_source=tmp_path / "nobody")
    lonely.submit("bad", PROMPT, adapter=hash_of("a3"), max_tokens=2)
    lonely.run_until("bad")
    assert lonely.end("bad").error.endswith("The agent of this host does not answer.")
