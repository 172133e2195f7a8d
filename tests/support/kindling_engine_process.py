"""A whole engine: front and core as processes, talked to over HTTP; from the nursery, or as the agent starts it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

from kindling_engine.protocol.usage_log import UsageRecord, read_usage
from kindling_engine.starter import ADAPTER_PATHS, SPARK_NAME, SPARK_PATH
from kindling_nursery import Forked

START_WITHIN_S = 90


class EngineProcess:
    """``with EngineProcess(folder) as engine`` serves the starter model; `events` are its words on stdout.

    `forked=False` starts programs of their own, as the agent does: for tests of the processes themselves.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: Path = SPARK_PATH,
        ref: str = SPARK_NAME,
        forked: bool = True,
        **options: Any,
    ) -> None:
        self.folder = folder
        self._forked = forked
        self.usage_log = folder / "usage.log"
        self.blobs = folder / "blobs"
        self.events: list[dict[str, Any]] = []
        self.port = 0
        self.start_s = 0.0
        self._arguments = {
            "model": model, "model-ref": ref, "usage-log": self.usage_log, "blobs": self.blobs,
            "replica": "replica-0", "device": "cpu", "port": 0, **options,
        }  # fmt: skip
        self.process: subprocess.Popen[str] | Forked | None = None

    def __enter__(self) -> "EngineProcess":
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        # True is a flag, which takes no value.
        arguments = [
            part
            for name, value in self._arguments.items()
            for part in ((f"--{name}",) if value is True else (f"--{name}", str(value)))
        ]
        self._started = time.monotonic()
        log = self.folder / "stderr"
        if self._forked:
            self.process = Forked("kindling_engine", "serve", *arguments, log=log)
            return
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kindling_engine", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def read_event(self) -> dict[str, Any]:
        """The next event but for news of loading, which come when a start is slow."""
        assert self.process
        assert self.process.stdout
        while True:
            line = self.process.stdout.readline()
            assert line, (self.folder / "stderr").read_text()[-2000:]
            self.events.append(json.loads(line))
            if self.events[-1]["event"] != "loading":
                return self.events[-1]

    def wait_ready(self) -> None:
        event = self.read_event()
        assert event["event"] == "ready", event
        self.port = event["port"]
        self.start_s = time.monotonic() - self._started

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def core_pid(self) -> int:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def wait_exit(self, within_s: float = 60) -> int:
        assert self.process
        return self.process.wait(within_s)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(60)
        if self.process and self.process.stdout:
            self.process.stdout.close()

    def records(self) -> list[UsageRecord]:
        return read_usage(self.usage_log, 0, 10_000)[1]

    def add_adapter(self, name: str) -> str:
        """Put a starter adapter where the engine finds it; gives its hash."""
        content_hash = hashlib.sha256(name.encode()).hexdigest()
        shutil.copytree(ADAPTER_PATHS[name], self.blobs / content_hash)
        return content_hash

    def headers(self, **fields: str) -> dict[str, str]:
        named = {"x-kindling-request": str(uuid.uuid4())}
        return named | {f"x-kindling-{name}": value for name, value in fields.items()}

    def chat(self, **fields: Any) -> httpx.Response:
        headers = self.headers(**fields.pop("headers", {}))
        return httpx.post(f"{self.url}/v1/chat/completions", json=ask(**fields), headers=headers, timeout=60)


def ask(**fields: Any) -> dict[str, Any]:
    return {
        "model": SPARK_NAME,
        "messages": [{"role": "user", "content": "Hello!"}],
        "temperature": 0,
    } | fields


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(happened: Any, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
