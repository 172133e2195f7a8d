"""The core as a process behind its socket."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kindling_engine.protocol.ipc import (
    CoreFailed,
    CoreReady,
    FrameBuffer,
    Sampling,
    Step,
    StepItem,
    Submit,
    ToCore,
    ToFront,
    decode_to_front,
    encode,
)
from kindling_nursery import Forked
from kindling_tiny_models import VOCAB, model_make


class Front:
    """The other end of the core's socket."""

    def __init__(self, model: Path, folder: Path, *options: str) -> None:
        path = folder / "s"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(60)
        arguments = [
            "--socket",
            path,
            "--model",
            model,
            "--model-ref",
            "t",
            "--blobs",
            folder,
            "--device",
            "cpu",
            *options,
        ]
        self.process = Forked("kindling_engine.core", *map(str, arguments), log=folder / "stderr")
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(60)
        self.frames = FrameBuffer()

    def send(self, message: ToCore) -> None:
        self.connection.sendall(encode(message))

    def messages(self) -> Iterator[ToFront]:
        while data := self.connection.recv(1 << 16):
            yield from map(decode_to_front, self.frames.feed(data))

    def items(self) -> Iterator[StepItem]:
        for message in self.messages():
            if isinstance(message, Step):
                yield from message.items

    def close(self) -> None:
        self.connection.close()
        self.listener.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


@pytest.fixture
def front(tmp_path) -> Iterator[Front]:
    front = Front(model_make("llama", tmp_path / "model"), tmp_path)
    yield front
    front.close()


def _greedy(**fields) -> Submit:
    return Submit(prompt_ids=[5, 6, 7], sampling=Sampling(temperature=0.0, ignore_eos=True), **fields)


def test_serves_through_the_socket_idles_without_work_and_leaves_with_the_front(front):
    ready = next(front.messages())
    assert isinstance(ready, CoreReady) and ready.vocab_size == VOCAB
    front.send(_greedy(id="a", max_tokens=20, grant=20))
    tokens = []
    for item in front.items():
        tokens += item.token_ids
        if item.finish:
            break
    assert item.finish == "length" and len(tokens) == 20
    before = _cpu_ticks(front.process.pid)
    time.sleep(1)
    assert _cpu_ticks(front.process.pid) - before < 20, "an idle core must not spin"
    front.connection.close()
    assert front.process.wait(60) == 0


def test_leaves_in_the_middle_of_work_when_the_front_is_gone(front):
    next(front.messages())
    front.send(_greedy(id="a", max_tokens=400, grant=400))
    next(front.items())
    front.connection.close()
    assert front.process.wait(60) == 0


def test_a_parked_request_ends_by_itself_though_nothing_arrives(front):
    next(front.messages())
    front.send(_greedy(id="a", max_tokens=20, grant=2))
    started_s = time.monotonic()
    finishes = []
    for item in front.items():
        finishes.append(item.finish)
        if item.finish:
            break
    assert finishes[-1] == "grant_refused"
    assert time.monotonic() - started_s > 1.5


def test_a_model_that_cannot_be_served_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["Strange"]}')
    front = Front(tmp_path / "model", tmp_path)
    try:
        failed = next(front.messages())
        assert isinstance(failed, CoreFailed) and failed.code == "unsupported_model"
        assert front.process.wait(60) == 1
    finally:
        front.close()


def test_a_cache_that_memory_has_no_room_for_names_what_to_lower(tmp_path):
    front = Front(model_make("llama", tmp_path / "model"), tmp_path, "--kv-tokens", str(10**13))
    try:
        failed = next(front.messages())
        assert isinstance(failed, CoreFailed) and failed.code == "out_of_memory"
        assert "10,000,000,000,000 tokens" in failed.message and "--kv-tokens" in failed.message
        assert front.process.wait(60) == 1
    finally:
        front.close()


def test_dies_with_its_parent(tmp_path):
    """The parent is killed while the socket's other end lives on here."""
    model = model_make("llama", tmp_path / "model")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)
    listener.settimeout(60)
    arguments = [sys.executable, "-m", "kindling_engine.core", "--socket", tmp_path / "s", "--model", model]
    arguments += ["--model-ref", "t", "--blobs", tmp_path, "--device", "cpu"]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({list(map(str, arguments))!r})"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    connection, _ = listener.accept()
    connection.settimeout(60)
    assert connection.recv(1 << 16), "the core is ready"
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    # Statistics may have been under way; what counts is that the socket ends.
    while connection.recv(1 << 16):
        pass
    connection.close()
    listener.close()


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
