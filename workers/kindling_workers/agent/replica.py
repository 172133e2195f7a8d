"""One replica: an engine process that is started again whenever it dies, until it is told to stop.

One that refuses its model is not: it would do so again. It waits for other files in the model's folder.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from kindling_engine.protocol.replica import MODEL_REFUSED, ReplicaSpec, ReplicaStatus
from kindling_platform.embedded.logs import LOOK_EVERY_S, log_roll, log_tail
from kindling_platform.embedded.ports import PortHold
from kindling_platform.embedded.process import Backoff, Command, spawn
from kindling_workers.agent.engine import HOST, EngineEvent, engine_argv, engine_env, read_event
from kindling_workers.agent.model_files import ModelFiles, model_files
from kindling_workers.agent.places import Places

POLL_S = 0.05
DRAIN_TIMEOUT_S = 10.0
KILLED_WITHIN_S = 5.0
# So many deaths in a row before the first token are a failure to report, though we keep trying.
FAILED_AFTER_DEATHS = 3
MODEL_LOOKED_AT_EVERY_S = 5.0
REFUSED_AGAIN_S = 300.0


@dataclass(slots=True)
class Replica:
    """Runs on the event loop of the agent's main thread, which is the thread that spawns the engine."""

    spec: ReplicaSpec
    places: Places
    hold: PortHold
    engine: tuple[str, ...]
    drain_s: float = DRAIN_TIMEOUT_S
    restarts: int = 0
    reason: str = ""
    ready_ms: int | None = None
    process: subprocess.Popen[bytes] | None = None
    _ready: bool = False
    _deaths_unready: int = 0
    _refused: bool = False
    _stopping: bool = False
    _backoff: Backoff = field(default_factory=Backoff)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"replica {self.spec.name}")

    async def stop(self) -> None:
        """Ask the engine to drain, wait, and end it if it does not."""
        self._stopping = True
        process = self.process
        if process and self._is_alive():
            process.terminate()
            await _wait_exit(process, self.drain_s)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._end_session()

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            name=self.spec.name,
            generation=self.spec.generation,
            state=self._state(),
            url=f"http://{HOST}:{self.hold.port}",
            pid=self.process.pid if self.process and self._is_alive() else None,
            restarts=self.restarts,
            reason=self.reason,
            ready_ms=self.ready_ms,
        )

    def _state(self) -> str:
        if self._stopping:
            return "stopped"
        if self._ready and self._is_alive():
            return "ready"
        if self._refused or self._deaths_unready >= FAILED_AFTER_DEATHS:
            return "failed"
        return "restarting" if self.restarts or self._ready else "starting"

    def _is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def _run(self) -> None:
        rolling = asyncio.ensure_future(_roll(self.places.log(self.spec.name)))
        try:
            await self._live()
        finally:
            rolling.cancel()

    async def _live(self) -> None:
        """One life after the other."""
        while True:
            started, files = time.monotonic(), await self._model_files()
            await self._live_once()
            # A cancellation that meets the end of the output is swallowed by wait_for in Python 3.11.
            if self._stopping:
                return
            self._deaths_unready = 0 if self._ready else self._deaths_unready + 1
            self._ready, self.ready_ms = False, None
            # What looked like the model's own fault may have been a disk's or a device's.
            again_at = time.monotonic() + REFUSED_AGAIN_S
            # A folder has no event that works on every file system either.
            while self._refused and time.monotonic() < again_at:
                if await self._model_files() != files:
                    break
                await asyncio.sleep(MODEL_LOOKED_AT_EVERY_S)
            self._refused = False
            self.restarts += 1
            await asyncio.sleep(self._backoff.next_delay_s(time.monotonic() - started))

    async def _model_files(self) -> ModelFiles:
        return await asyncio.to_thread(model_files, self.spec.model_path)

    async def _live_once(self) -> None:
        """Spawn the engine and return when it has ended."""
        log_path = self.places.log(self.spec.name)
        self.places.usage_log(self.spec.name).parent.mkdir(parents=True, exist_ok=True)
        command = Command(
            name=self.spec.name,
            argv=engine_argv(self.engine, self.spec, self.hold.port, self.places),
            env=engine_env(self.spec),
            log_path=log_path,
        )
        try:
            self.process = process = spawn(command, stdout=subprocess.PIPE)
        except OSError as error:
            self.reason = f"The engine could not be started: {error}"
            return
        failure: EngineEvent | None = None
        reading = asyncio.ensure_future(self._read_output(process))
        try:
            await _wait_exit(process)
            await self._end_session()
            # What it said last may still be in the pipe; a full disk under the log stops no next life.
            with contextlib.suppress(TimeoutError, OSError):
                failure = await asyncio.wait_for(reading, timeout=0.5)
        finally:
            reading.cancel()
        self.reason = (failure and failure.message) or _describe_death(
            process.returncode, log_tail(log_path, 1)
        )
        self._refused = failure is not None and failure.code in MODEL_REFUSED

    async def _read_output(self, process: subprocess.Popen[bytes]) -> EngineEvent | None:
        """Follow standard output: mark readiness, log the rest; give a reported failure."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        failure = None
        try:
            with self.places.log(self.spec.name).open("ab") as log:
                while line := await reader.readline():
                    event = read_event(line)
                    if event and event.event == "ready":
                        self._ready, self.ready_ms, self.reason = True, int(time.time() * 1000), ""
                        self._deaths_unready = 0
                    elif event and event.event == "failed":
                        failure = event
                    elif event and event.event == "loading" and not self._ready:
                        self.reason = event.message
                    log.write(line)
                    log.flush()
        finally:
            pipe.close()
        return failure

    async def _end_session(self) -> None:
        """Kill whatever is left of the engine's session: its core must not keep the memory.

        One that the kernel does not let go of (a disk or a device that does not answer) is left to it.
        """
        process, self.process = self.process, None
        if process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await _wait_exit(process, KILLED_WITHIN_S)


async def _roll(log_path: Path) -> None:
    while True:
        await asyncio.to_thread(log_roll, log_path)
        await asyncio.sleep(LOOK_EVERY_S)


async def _wait_exit(process: subprocess.Popen[bytes], within_s: float = float("inf")) -> None:
    deadline = time.monotonic() + within_s
    # Looking is enough: a process has no event to wait for that works on every kernel and under root alike.
    while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


def _describe_death(code: int, last_line: str) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return f"The engine {how}." + (f" It last wrote: {last_line[-500:]}" if last_line else "")
