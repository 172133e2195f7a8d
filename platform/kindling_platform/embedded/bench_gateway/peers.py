"""Peers before the same engine: each in an environment of its own, one process, with nothing switched on.

They load while others do, and stand still unless they are asked, so that nobody's figures feel them.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kindling_platform.embedded.bench_gateway.load import Target
from kindling_platform.embedded.bench_gateway.subject import Subject, wait_listening
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port

LITELLM, PORTKEY = "1.106.2", "1.15.2"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that was started; before it is asked it has to have come to rest."""

    subject: Subject
    process: subprocess.Popen[bytes]
    log: Path

    def rest(self) -> None:
        """Wait until it listens, and let it stand still. Errors: EmbeddedError when it does not start."""
        wait_listening(lambda: self.process.poll() is None, self.subject.target.port, self.log)
        self.process.send_signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[Subject]:
        """The peer while it may be asked."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield self.subject
        finally:
            self.process.send_signal(signal.SIGSTOP)


def litellm_python(home: Home, *, install: bool) -> Path | None:
    """The interpreter of LiteLLM's environment; None when it is not installed and is not to be."""
    folder = home.path / "peers" / f"litellm-{LITELLM}"
    python = folder / "bin" / "python"
    commands = (
        (sys.executable, "-m", "venv", str(folder)),
        (str(python), "-m", "pip", "install", "-q", f"litellm[proxy]=={LITELLM}"),
    )
    return python if _installed(folder, commands, install=install) else None


def portkey_script(home: Home, *, install: bool) -> Path | None:
    """Where Portkey's gateway begins; None when it is not installed and is not to be, or without Node.js."""
    folder = home.path / "peers" / f"portkey-{PORTKEY}"
    package = f"@portkey-ai/gateway@{PORTKEY}"
    commands = (("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), package),)
    has_node = shutil.which("node") is not None and shutil.which("npm") is not None
    if not has_node or not _installed(folder, commands, install=install):
        return None
    return folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


@contextmanager
def litellm_started(python: Path, upstream_port: int) -> Iterator[Peer]:
    """LiteLLM's proxy: one worker, no database, no key."""
    hold = hold_port()
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as text:
        config = Path(text) / "config.yaml"
        config.write_text(
            "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n"
            f"      api_base: http://127.0.0.1:{upstream_port}/v1\n      api_key: none\n"
            "general_settings:\n  dangerously_permit_weak_or_unset_master_key: true\n"
        )
        options = ("--config", str(config), "--port", str(hold.port), "--host", "127.0.0.1")
        command = (str(python.parent / "litellm"), *options)
        target = Target(hold.port, "bench", "none")
        try:
            with _started(command, target, Path(text), LITELLM_LOG="ERROR") as peer:
                yield peer
        finally:
            hold.release()


@contextmanager
def portkey_started(script: Path, upstream_port: int) -> Iterator[Peer]:
    """Portkey's gateway without its console; requests say by header where they go."""
    hold = hold_port()
    headers = (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{upstream_port}/v1",
    )
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as text:
        command = ("node", str(script), f"--port={hold.port}", "--headless")
        settings = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
        target = Target(hold.port, "bench", "none", headers)
        try:
            with _started(command, target, Path(text), **settings) as peer:
                yield peer
        finally:
            hold.release()


@contextmanager
def _started(command: Sequence[str], target: Target, folder: Path, **settings: str) -> Iterator[Peer]:
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **settings},
        )
    try:
        yield Peer(Subject(process.pid, target), process, log)
    finally:
        process.kill()
        process.wait()


def _installed(folder: Path, commands: Sequence[Sequence[str]], *, install: bool) -> bool:
    done = folder / "installed"
    if done.exists():
        return True
    if not install:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise EmbeddedError("peer_not_installed", f"{folder.name} was not installed: {ran.stderr[-600:]}")
    done.touch()
    return True
