"""Who runs the database when we are root, and how that account gets to the files it needs.

Postgres refuses to run as root. Started by root, both servers run as `nobody`; what lies under a
folder closed to others (home directories are 0700) is copied or kept under /var/lib/kindling.
"""

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from kindling_platform.embedded.errors import EmbeddedError

SHARED_ROOT = Path("/var/lib/kindling")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of this machine."""

    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        for path in paths:
            os.chown(path, self.uid, self.gid)


def service_account() -> Account | None:
    """The account that the servers run as, or None when we are not root and they run as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "no_unprivileged_account",
            "Started as root, and this machine has no account `nobody` to run Postgres as; "
            "start Kindling as an ordinary user.",
        ) from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def is_reachable(path: Path, account: Account | None) -> bool:
    """Whether the account may enter every folder above `path`; only mode bits are looked at."""
    if account is None:
        return True
    for folder in path.resolve().parents:
        try:
            info = folder.stat()
        except FileNotFoundError:
            continue
        bit = stat.S_IXUSR if info.st_uid == account.uid else stat.S_IXOTH
        if not info.st_mode & bit:
            return False
    return True


def reachable_folder(wanted: Path, account: Account | None) -> Path:
    """`wanted`, or a folder of its own under /var/lib/kindling when the account cannot reach it.

    A file `<wanted>.location` then says where the data went. It stays there when a folder above is opened or closed:
    a start that looked elsewhere would find an empty installation. Errors: `data_unreachable`.
    """
    elsewhere = SHARED_ROOT / _digest(str(wanted.resolve())) / wanted.name
    pointer = wanted.with_name(wanted.name + ".location")
    is_open, has_data = is_reachable(wanted, account), wanted.is_dir() and any(wanted.iterdir())
    if has_data and not is_open:
        raise EmbeddedError(
            "data_unreachable",
            f"The account `nobody` can no longer enter a folder above {wanted}, where its data is; "
            "let others pass through those folders again (chmod o+x).",
        )
    if is_open and (has_data or not (pointer.exists() and elsewhere.exists())):
        return wanted
    _make_enterable(elsewhere.parent)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    pointer.write_text(f"{elsewhere}\n")
    return elsewhere


def reachable_copy(root: Path, parts: tuple[str, ...], account: Account | None) -> Path:
    """`root`, or a folder that holds copies of its `parts` when the account cannot reach them.

    The parts keep their places relative to each other, since programs find their libraries that way.
    """
    present = [part for part in parts if (root / part).exists()]
    if all(is_reachable(root / part / "x", account) for part in present):
        return root
    ages = [(root / part).stat().st_mtime_ns for part in present]
    target = SHARED_ROOT / "programs" / _digest(f"{root.resolve()} {present} {ages}")
    if target.is_dir():
        return target
    _make_enterable(target.parent)
    half = target.with_name(f"{target.name}.{os.getpid()}")
    half.mkdir(mode=0o755)
    for part in present:
        (half / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(root / part, half / part, symlinks=True)
    try:
        half.rename(target)
    except OSError:
        # Another start finished the same copy first.
        shutil.rmtree(half)
    return target


def _make_enterable(folder: Path) -> None:
    for part in (SHARED_ROOT, *reversed([p for p in (folder, *folder.parents) if SHARED_ROOT in p.parents])):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o755)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
