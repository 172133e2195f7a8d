"""Gateways and workers' jobs that die at a named point, on the test database.

Each is forked from a process that has imported everything, and so starts in a moment.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from kindling_worker import worker_env

GATEWAYS = """
import json, os, socket, sys
import uvicorn
from kindling_platform.common import crash_points
from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import asgi_application
for line in sys.stdin:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    pid = os.fork()
    if pid == 0:
        crash_points._at = json.loads(line)
        uvicorn.run(asgi_application(create_app(load_env())), fd=listener.fileno(), log_level="warning")
        os._exit(0)
    print(json.dumps([pid, listener.getsockname()[1]]), flush=True)
    listener.close()
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""
JOBS = """
import json, os, sys
import django
django.setup()
import msgspec
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common import crash_points
from kindling_platform.usage.services import usage_ingest
from kindling_workers.billing import gpu_time_bill
from kindling_workers.booking import spool_carry
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets
def book(records):
    spool_carry(Wallets(valkey_client()))
def ingest(records):
    records = [msgspec.convert(record, UsageRecord) for record in records]
    usage_ingest(source="engine", log_id="log", after=0, records=records, next_offset=len(records))
def gpu_time(records):
    gpu_time_bill(Wallets(valkey_client()))
for line in sys.stdin:
    point, job, records = json.loads(line)
    pid = os.fork()
    if pid == 0:
        crash_points._at = point
        {"book": book, "ingest": ingest, "gpu_time": gpu_time}[job](records)
        os._exit(0)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""


class Forks:
    """A process that forks one child after the other."""

    def __init__(self, script: str, log: Path, **settings: str) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", script],
                env=worker_env(KINDLING_LOG_LEVEL="ERROR", **settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
            )

    def __enter__(self) -> "Forks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, value: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process of the forks has died"
        return json.loads(line)


class GatewayForks:
    """One gateway after the other, each with the point at which it dies."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks
        self._pid = 0

    def start(self, point: str) -> str:
        """The URL of a gateway that dies at this point."""
        self._forks.tell(point)
        self._pid, port = self._forks.read()
        return f"http://127.0.0.1:{port}"

    def wait(self) -> int:
        """The exit status of the last one, once it has ended."""
        return int(self._forks.read())

    def stop(self) -> int:
        """End the last one as a restart does."""
        os.kill(self._pid, signal.SIGTERM)
        return self.wait()
