"""Peers before the same engine: each in an environment of its own, one process, with nothing switched on."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kindling_platform.embedded.bench_gateway.load import Target
from kindling_platform.embedded.bench_gateway.subject import Subject, wait_listening
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port

LITELLM, PORTKEY = "1.106.2", "1.15.2"


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
def litellm_running(python: Path, upstream_port: int) -> Iterator[Subject]:
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
        try:
            with _running(command, hold.port, Path(text), LITELLM_LOG="ERROR") as pid:
                yield Subject(pid, Target(hold.port, "bench", "none"))
        finally:
            hold.release()


@contextmanager
def portkey_running(script: Path, upstream_port: int) -> Iterator[Subject]:
    """Portkey's gateway without its console; requests say by header where they go."""
    hold = hold_port()
    headers = (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{upstream_port}/v1",
    )
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as text:
        command = ("node", str(script), f"--port={hold.port}", "--headless")
        settings = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
        try:
            with _running(command, hold.port, Path(text), **settings) as pid:
                yield Subject(pid, Target(hold.port, "bench", "none", headers))
        finally:
            hold.release()


@contextmanager
def _running(command: Sequence[str], port: int, folder: Path, **settings: str) -> Iterator[int]:
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
        wait_listening(lambda: process.poll() is None, port, log)
        yield process.pid
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
