"""Runs an engine for a bench, as the agent would."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END_WITHIN_S = 15


@dataclass(frozen=True, slots=True)
class EngineUnderTest:
    """A running engine; ``start_s`` is the time from its spawn to its ready line."""

    url: str
    pid: int
    start_s: float

    @property
    def core_pid(self) -> int:
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    @staticmethod
    def cpu_s(pid: int) -> float:
        """CPU time that a process has used."""
        parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def engine_run(model: Path, device: str) -> Iterator[EngineUnderTest]:
    """An engine on a free port, ended afterwards. Raises RuntimeError when it does not start."""
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        folder = Path(name)
        arguments = [
            *("--model", str(model), "--model-ref", "bench/model", "--replica", "bench", "--device", device),
            *("--usage-log", str(folder / "usage.log"), "--blobs", str(folder / "blobs")),
        ]
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "kindling_engine", "serve", *arguments], stdout=subprocess.PIPE, text=True
        )
        try:
            said = _first_words(process)
            if said.get("event") != "ready":
                raise RuntimeError(said.get("message", "the engine ended while starting"))
            yield EngineUnderTest(f"http://127.0.0.1:{said['port']}", process.pid, time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(END_WITHIN_S)
            if process.stdout:
                process.stdout.close()


def _first_words(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first event that is not news of loading; empty when the engine has ended."""
    for line in process.stdout or ():
        said: dict[str, Any] = json.loads(line)
        if said.get("event") != "loading":
            return said
    return {}
