"""Worker processes as seen from the bench that started them."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kindling_engine.bench.run import Run
from kindling_engine.bench.workloads import Load
from kindling_engine.protocol.openmp import patient

OURS = frozenset({"ours", "lora"})
_END_WITHIN_S = 10


class WorkerError(Exception):
    """What a worker could not do, in its own words."""


class Worker:
    """A process that holds one engine; it loads while its maker goes on, until ``ready`` is asked for.

    ``python`` is the interpreter that has the engine's packages; its venv need not have ours.
    """

    def __init__(
        self, kind: str, settings: dict[str, Any], *, threads: int, python: str = sys.executable
    ) -> None:
        self.kind = kind
        self.facts: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [python, "-m", "kindling_engine.bench.worker", kind, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What ours warns of may be why it is slow: of steps that cannot be captured, for one.
            stderr=None if kind in OURS else subprocess.DEVNULL,
            # Ours waits as it does when it serves; peers as they come.
            env=patient(_environment(threads)) if kind in OURS else _environment(threads),
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def ready(self) -> Self:
        """Wait for the model to be loaded; raises WorkerError."""
        self.facts = self._read()
        return self

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """One operation and its answer; raises WorkerError."""
        if self._process.stdin is None:
            raise WorkerError("the worker has no input")
        try:
            self._process.stdin.write(json.dumps({"op": operation, **fields}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"{self.kind} ended") from error
        return self._read()

    def run(self, load: Load, *, vocab_size: int, seed: int, threads: int, mode: str = "") -> Run:
        prompts = load.prompts(vocab_size=vocab_size, seed=seed)
        return Run(**self.ask("run", prompts=prompts, output=load.output, threads=threads, mode=mode))

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise WorkerError(f"{self.kind} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(str(answer["error"]))
        return answer


def _environment(threads: int) -> dict[str, str]:
    """The import path of this process, and a thread pool of the largest size that will be asked for."""
    import os

    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
