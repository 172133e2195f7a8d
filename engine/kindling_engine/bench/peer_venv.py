"""A venv of its own for a peer, made on demand, so that no peer decides which versions our own engine runs with."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PIP_WITHIN_S = 1200
_FINISHED = "kindling-peer.json"


class PeerInstallError(Exception):
    """Why a peer could not be installed, in words for whoever asked for it."""


@dataclass(frozen=True, slots=True)
class PeerVenv:
    """Pinned packages of one peer, and what has to be built after them; ``version`` is the peer's own."""

    name: str
    version: str
    requirements: tuple[str, ...]
    build: Callable[[Path], None] | None = None

    @property
    def folder(self) -> Path:
        home = Path(os.environ.get("KINDLING_HOME") or ".kindling").expanduser().resolve()
        return home / "peers" / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether an installation of just these pins came to its end."""
        try:
            finished = json.loads((self.folder / _FINISHED).read_text())
        except (OSError, ValueError):
            return False
        return bool(finished == self._pins())

    def install(self, say: Callable[[str], None]) -> None:
        """Make the venv anew; raises PeerInstallError."""
        say(f"installing {self.name} {self.version} into {self.folder}")
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PeerInstallError(f"{self.folder.parent} cannot be made: {error.strerror}") from error
        # Putting pip into it takes most of the time.
        options = [] if self.requirements else ["--without-pip"]
        step([sys.executable, "-m", "venv", *options, self.folder], what="making the venv")
        if self.requirements:
            pip: list[str | Path] = [
                self.python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            step([*pip, *self.requirements], what="pip install", within_s=_PIP_WITHIN_S)
        if self.build:
            say(f"building {self.name}; this takes a while, once")
            self.build(self.folder)
        (self.folder / _FINISHED).write_text(json.dumps(self._pins()))

    def _pins(self) -> dict[str, str | list[str]]:
        return {"version": self.version, "requirements": list(self.requirements)}


def step(command: Sequence[str | Path], *, what: str, within_s: float = _PIP_WITHIN_S) -> None:
    """Run one command of an installation quietly; raises PeerInstallError with the last thing that it said."""
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Compilers are grandchildren; a group can be ended as a whole.
            start_new_session=True,
        )
    except OSError as error:
        raise PeerInstallError(f"{what}: {error.strerror}") from error
    try:
        said, complained = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired as error:
        raise PeerInstallError(f"{what} took longer than {within_s:.0f} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        raise PeerInstallError(f"{what} failed: {_last_words(complained, said)}")


def _last_words(*outputs: str) -> str:
    """The first error line where there is one, else the last line."""
    lines = [line.strip() for output in outputs for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors[:1] or lines[-1:] or ["it said nothing"])[0][:200]
