"""Peers of the engine bench: the same weights in their own form, venvs on demand, and no figure of one that errs."""

import struct
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kindling_engine.bench.gguf import gguf_convert, gguf_write, rope_rows, tensor_name
from kindling_engine.bench.peer_transformers import GENERATE, TransformersSubject
from kindling_engine.bench.peer_venv import PeerInstallError, PeerVenv, step
from kindling_engine.bench.peers import PEERS, Peer, peers_of
from kindling_engine.bench.peers_start import NOT_INSTALLED, Peers, peers_install, peers_ready, peers_start
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.bench.stored import StoredCheckpoint
from kindling_engine.bench.subjects import Worker, WorkerError

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True)
SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINDLING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class GgufFile:
    """A reader of its own, after the format's description."""

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)
        assert self._file.read(4) == b"GGUF"
        version, tensors, pairs = self._unpack("<I"), self._unpack("<Q"), self._unpack("<Q")
        assert version == 3
        self.metadata = {self._string(): self._value(self._unpack("<I")) for _ in range(pairs)}
        described = [self._description() for _ in range(tensors)]
        start = -(-self._file.tell() // 32) * 32
        self.offsets = [offset for _, _, offset in described]
        self.tensors = {
            name: np.frombuffer(data, "<f4", int(np.prod(shape)), start + offset).reshape(shape)
            for name, shape, offset in described
        }

    def _description(self):
        name, dimensions = self._string(), self._unpack("<I")
        shape = tuple(self._unpack("<Q") for _ in range(dimensions))[::-1]
        assert self._unpack("<I") == 0
        return name, shape, self._unpack("<Q")

    def _value(self, kind):
        if kind == 8:
            return self._string()
        if kind == 9:
            of, length = self._unpack("<I"), self._unpack("<Q")
            return [self._value(of) for _ in range(length)]
        return self._unpack(SCALARS[kind])

    def _string(self):
        return self._file.read(self._unpack("<Q")).decode()

    def _unpack(self, form):
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]


def test_a_gguf_file_holds_what_was_written():
    odd = np.arange(15, dtype=np.float32).reshape(5, 3)
    metadata = {"a": 7, "b": 1.5, "c": "é", "d": False, "e": ["x", "yz"], "f": [3, -1]}
    file = BytesIO()
    gguf_write(file, metadata, {"odd": odd, "row": np.ones(4, np.float32)})
    read = GgufFile(file.getvalue())
    assert read.metadata == metadata
    assert np.array_equal(read.tensors["odd"], odd)
    assert read.tensors["row"].tolist() == [1, 1, 1, 1]
    assert read.offsets == [0, 64]


def test_a_converted_checkpoint_keeps_its_weights_under_other_names(tmp_path):
    checkpoint_write(TINY, tmp_path)
    gguf_convert(tmp_path, tmp_path / "model.gguf")
    read, stored = GgufFile((tmp_path / "model.gguf").read_bytes()), StoredCheckpoint(tmp_path)
    assert set(read.tensors) == {tensor_name(name) for name in stored}
    assert sum(tensor.size for tensor in read.tensors.values()) == TINY.parameters
    assert np.array_equal(
        read.tensors["blk.1.ffn_down.weight"], stored["model.layers.1.mlp.down_proj.weight"]
    )
    assert np.array_equal(read.tensors["token_embd.weight"], stored["model.embed_tokens.weight"])
    moved = read.tensors["blk.0.attn_k.weight"]
    # The second row of a head comes from its middle: 16 rows a head, 8 to a half.
    assert np.array_equal(moved[1], stored["model.layers.0.self_attn.k_proj.weight"][8])
    assert read.metadata["llama.attention.head_count_kv"] == 2
    assert read.metadata["llama.rope.dimension_count"] == 16
    assert (
        len(read.metadata["tokenizer.ggml.tokens"]) == len(set(read.metadata["tokenizer.ggml.tokens"])) == 320
    )


def test_rows_in_the_other_order_rotate_to_the_same_attention_scores():
    random = np.random.default_rng(0)
    heads, d, hidden = 2, 8, 12
    q_weight, k_weight = random.normal(size=(2, heads * d, hidden)).astype(np.float32)
    x, y = random.normal(size=(2, hidden)).astype(np.float32)
    angles = np.array([10000.0 ** (-i / (d // 2)) for i in range(d // 2)])

    def halves(vector, position):
        a, b = vector.reshape(heads, 2, d // 2).swapaxes(0, 1)
        cos, sin = np.cos(position * angles), np.sin(position * angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)

    def neighbours(vector, position):
        a, b = vector.reshape(heads, d // 2, 2)[..., 0], vector.reshape(heads, d // 2, 2)[..., 1]
        cos, sin = np.cos(position * angles), np.sin(position * angles)
        return np.stack([a * cos - b * sin, b * cos + a * sin], axis=2).reshape(heads, d)

    wanted = (halves(q_weight @ x, 9) * halves(k_weight @ y, 4)).sum(axis=1)
    moved_q, moved_k = rope_rows(q_weight, heads) @ x, rope_rows(k_weight, heads) @ y
    assert (neighbours(moved_q, 9) * neighbours(moved_k, 4)).sum(axis=1) == pytest.approx(wanted, rel=1e-4)
    assert (neighbours(q_weight @ x, 9) * neighbours(k_weight @ y, 4)).sum(axis=1) != pytest.approx(
        wanted, rel=1e-2
    )


def test_a_tensor_that_no_llama_has_is_refused():
    with pytest.raises(KeyError):
        tensor_name("model.layers.0.self_attn.q_norm.weight")


def test_weights_of_another_precision_are_refused(tmp_path):
    checkpoint_write(TINY, tmp_path)
    save_file({"lm_head.weight": torch.zeros(2, 2, dtype=torch.float16)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="F16 where fp32 is expected"):
        gguf_convert(tmp_path, tmp_path / "model.gguf")


def test_a_peer_is_installed_once_its_venv_is_finished_and_as_long_as_its_pins_stay(home):
    built = []
    venv = PeerVenv("fake", "1", (), build=built.append)
    said = []
    assert not venv.installed
    venv.install(said.append)
    assert venv.installed
    assert built == [home / "peers" / "fake"]
    assert "fake 1" in said[0]
    assert subprocess.run([venv.python, "-c", "import json"], check=False).returncode == 0
    assert not PeerVenv("fake", "2", ()).installed
    assert not PeerVenv("fake", "1", ("numpy==2.0.0",)).installed


def test_an_install_that_fails_leaves_a_reason_and_no_peer(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KINDLING_HOME", str(tmp_path / "file"))
    peers = {"fake": Peer(("mode",), lambda: None, venv=PeerVenv("fake", "1", ()))}
    with ExitStack() as stack:
        started = peers_start(peers, {}, stack, threads=1, install=True)
    assert started.workers == []
    assert started.reasons()["fake"] is None
    assert "cannot be made" in started.reasons()["fake: why not"]
    assert "fake: " in capsys.readouterr().err


def test_a_build_that_fails_leaves_a_venv_that_does_not_count(home, monkeypatch):
    def fails(folder: Path) -> None:
        raise PeerInstallError(f"there is no compiler for {folder.name}")

    monkeypatch.setattr("kindling_engine.bench.peer_venv.step", lambda command, **options: None)
    peers = {
        "fake": Peer(("mode",), lambda: None, venv=PeerVenv("fake", "1", ("numpy==2.0.0",), build=fails))
    }
    assert peers_install(peers) == {"fake": "there is no compiler for fake"}
    assert not peers["fake"].installed


def test_without_being_asked_to_nothing_is_installed(home):
    peers = {"fake": Peer(("mode",), lambda: None, venv=PeerVenv("fake", "1", ()))}
    with ExitStack() as stack:
        started = peers_start(peers, {}, stack, threads=1, install=False)
    assert started.missing == {"fake": NOT_INSTALLED}
    assert started.versions(peers) == {"fake_version": None}
    assert not home.exists()


def test_a_step_that_fails_says_its_error_line():
    script = "import sys; print('error: no such header\\nstopped', file=sys.stderr); sys.exit(3)"
    with pytest.raises(PeerInstallError, match="compiling failed: error: no such header"):
        step([sys.executable, "-c", script], what="compiling")
    with pytest.raises(PeerInstallError, match="compiling: No such file"):
        step(["/nonexistent/cmake"], what="compiling")


def test_a_step_that_hangs_is_ended_with_its_children(tmp_path):
    child = f"import os, signal; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(PeerInstallError, match="compiling took longer than 5 s"):
        step([sys.executable, "-c", parent], what="compiling", within_s=5)
    assert not running(tmp_path / "pid")


def running(pid_file: Path) -> bool:
    """Whether the process that left its id there still has a command line; a dead one has none."""
    try:
        return Path(f"/proc/{pid_file.read_text()}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        assert pid_file.exists()
        return False


class FakeWorker:
    """A worker with fixed answers."""

    def __init__(self, kind: str, *, fails: bool = False, deficit: float = 0.0) -> None:
        self.kind, self._fails, self._deficit = kind, fails, deficit

    def ready(self):
        if self._fails:
            raise WorkerError("no such library")
        return self

    def ask(self, operation, *, prompts, **fields):
        assert len(prompts) == 8
        return {"tokens": [[5, 6]] * 8} if operation == "tokens" else {"deficit": self._deficit}


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (FakeWorker("transformers", deficit=1e-5), None),
        (FakeWorker("transformers", deficit=0.2), "mode chooses tokens whose logits lie up to 0.2 below"),
        (FakeWorker("transformers", fails=True), "cannot be checked without transformers"),
    ],
)
def test_a_peer_takes_part_once_its_tokens_are_the_references(judge, reason):
    peers = {
        "transformers": Peer(("generate",), lambda: None, package="json"),
        "fake": Peer(("mode",), lambda: None, venv=PeerVenv("fake", "1", ())),
        "broken": Peer(("mode",), lambda: None, venv=PeerVenv("broken", "1", ())),
    }
    started = Peers([judge, FakeWorker("fake"), FakeWorker("broken", fails=True)])
    ready = peers_ready(started, peers, vocab_size=320)
    assert ready.missing["broken"] == "no such library"
    if reason is None:
        assert [worker.kind for worker in ready.workers] == ["transformers", "fake"]
        assert ready.versions(peers) == {"fake_version": "1", "broken_version": None}
    else:
        assert reason in ready.missing["fake"]
        assert "fake" not in [worker.kind for worker in ready.workers]


def test_the_judge_tells_right_tokens_from_others(tmp_path):
    checkpoint_write(TINY, tmp_path)
    judge = TransformersSubject(tmp_path, {"device": "cpu", "kv_tokens": 512})
    prompts = [[5, 80, 300, 9], [11, 12, 250]]
    model, made = judge._model, []
    for prompt in prompts:
        tokens = list(prompt)
        for _ in range(3):
            logits = model(torch.tensor([tokens])).logits[0, -1].detach()
            logits[TINY.config()["eos_token_id"]] = -torch.inf
            tokens.append(int(logits.argmax()))
        made.append(tokens[len(prompt) :])
    assert judge.deficit(prompts, made) < 1e-5
    assert judge.deficit(prompts, [made[0], [(made[1][0] + 1) % 320, *made[1][1:]]]) > 0.01


def test_the_probe_of_the_memorys_speed_is_not_the_models_memory():
    # In a process of its own, whose peak is not somebody else's.
    script = """
import torch
from kindling_engine.bench.memory import peak_bytes, read_gbps
torch.ones(8).sum()
before = peak_bytes()
assert read_gbps(torch.device("cpu"), repeats=1) > 0
print(peak_bytes() - before)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0 <= int(ran.stdout) < 64 << 20


def test_only_transformers_is_measured_on_a_gpu():
    assert list(peers_of("cuda")) == ["transformers"]
    assert set(peers_of("cpu")) == {"transformers", "llama_cpp", "openvino"}
    assert PEERS["transformers"].modes[0] == GENERATE


_FAKE_SERVER = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({{"status": "ok"}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["ignore_eos"] and asked["temperature"] == 0
        made = [[sum(prompt)] * asked["n_predict"] for prompt in asked["prompt"]]
        self.answer([dict(index=i, tokens=tokens) for i, tokens in reversed(list(enumerate(made)))])

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert open(options["--model"], "rb").read(4) == b"GGUF"
open("{folder}/server-" + options["--threads"], "w").write(str(os.getpid()))
HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


def test_a_worker_in_a_venv_without_torch_answers_the_protocol(tmp_path):
    venv, model = tmp_path / "venv", tmp_path / "model"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    packages = next(venv.glob("lib/python*/site-packages"))
    numpy = Path(find_spec("numpy").origin).parent
    for folder in (numpy, numpy.with_name("numpy.libs")):
        (packages / folder.name).symlink_to(folder)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    server = venv / "bin" / "llama-server"
    server.write_text(_FAKE_SERVER.format(python=sys.executable, folder=tmp_path))
    server.chmod(0o755)
    checkpoint_write(TINY, model)
    with Worker("llama_cpp", {"folder": str(model)}, threads=2, python=str(python)) as worker:
        worker.ready()
        made = worker.ask("tokens", prompts=[[5, 6], [7]], output=3, threads=1, mode="")
        assert made == {"tokens": [[11] * 3, [7] * 3]}
        run = worker.ask("run", prompts=[[5, 6], [7]], output=3, threads=2)
        assert run["tokens"] == 6
        assert run["wall_s"] > 0
        with pytest.raises(WorkerError, match="unknown operation"):
            worker.ask("dance")
        assert running(tmp_path / "server-1")
        assert running(tmp_path / "server-2")
    assert not running(tmp_path / "server-1")
    assert not running(tmp_path / "server-2")
