"""The locks of the state folder: one supervisor or other work on it at a time, and one backup."""

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home

STACK = "Kindling"
PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock and what for; `is_here` is false where the number is that of another machine's or container's
    process, which names a stranger on this one.
    """

    pid: int
    what: str
    is_here: bool

    @property
    def is_stack(self) -> bool:
        return self.what == STACK

    def refusal(self, home: Home) -> EmbeddedError:
        where = f"process {self.pid}" + ("" if self.is_here else " of another machine or container")
        if self.is_stack:
            stop = "stop it with `./kindling down`" + ("" if self.is_here else " there")
            return EmbeddedError(
                "already_running", f"Kindling already runs on {home.path} ({where}); {stop}."
            )
        return EmbeddedError(
            "busy", f"{self.what} is running on {home.path} ({where}); wait until it has ended."
        )


class HomeLock:
    """Held by who works on the folder as long as it lives; the kernel lets go of it when the process dies."""

    def __init__(self, home: Home, *, what: str = STACK, path: Path | None = None) -> None:
        self._home = home
        self._what = what
        self._path = path or home.lock
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Errors: `already_running`, `busy`, `home_unwritable`, `home_unlockable`."""
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise self._home.unwritable(error) from error
        try:
            self._lock(file)
            file.truncate(0)
            file.write("\n".join([str(os.getpid()), *_here(), self._what]) + "\n")
            file.flush()
        except BaseException as error:
            # What could not be written is written again by the closing.
            with contextlib.suppress(OSError):
                file.close()
            if isinstance(error, OSError):
                raise self._home.unwritable(error) from error
            raise
        self._file = file

    def _lock(self, file: IO[str]) -> None:
        # A command that looks who holds the lock shares it for an instant; only an owner keeps it.
        for attempt in range(PATIENCE):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.02 * attempt)
            except OSError as error:
                raise EmbeddedError(
                    "home_unlockable",
                    f"The file system of {self._home.path} has no locks ({error.strerror}); "
                    "set KINDLING_HOME to a folder on a disk of this machine.",
                ) from error
        owner = lock_owner(self._home, self._path)
        raise (owner or Owner(0, "Something", is_here=False)).refusal(self._home)

    def release(self) -> None:
        if self._file:
            # Nobody is sent to a number that is another process's by then.
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None


def lock_owner(home: Home, path: Path | None = None) -> Owner | None:
    """Who holds the lock of this folder, or None. The look is shared, so that two never take each other for one."""
    try:
        file = (path or home.lock).open()
    except OSError:
        return None
    with file:
        for _ in range(PATIENCE):
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                file.seek(0)
                found = _read(file.read())
            except OSError:
                return None
            if found:
                return found
            # It was taken just now, or is being given back.
            time.sleep(0.02)
    return None


def stack_runs(home: Home) -> bool:
    """Whether a supervisor runs on this folder."""
    owner = lock_owner(home)
    return owner is not None and owner.is_stack


def _read(text: str) -> Owner | None:
    pid, *rest = text.split("\n")[:-1] or [""]
    if not pid.isdigit():
        return None
    # Older versions wrote the number alone.
    boot, space, what = rest if len(rest) == 3 else (*_here(), STACK)
    return Owner(int(pid), what, is_here=(boot, space) == _here())


def _here() -> tuple[str, str]:
    """What tells this machine's present run and this container's process numbers from others'."""
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        space = Path("/proc/self/ns/pid").readlink().name
    return boot, space
