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
from secrets import token_hex

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import write_private

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


def reachable_folder(wanted: Path, account: Account | None, *, kept: str = "") -> Path:
    """`wanted`, or a folder of its own under /var/lib/kindling when the account cannot reach it.

    `kept` is a file that data worth keeping has. Once `location_note` has said where such data went, it is looked for
    there alone, whatever became of the state folder's name and of the folders above it: a start that looked elsewhere
    would find an empty installation. Errors: `data_unreachable`, `data_missing`.
    """
    is_open = is_reachable(wanted, account)
    if wanted.is_dir() and any(wanted.iterdir()):
        if not is_open:
            raise EmbeddedError(
                "data_unreachable",
                f"The account `nobody` can no longer enter a folder above {wanted}, where its data is; "
                "let others pass through those folders again (chmod o+x).",
            )
        return wanted
    if kept and location_file(wanted).exists():
        return _noted(location_file(wanted), kept)
    if is_open:
        return wanted
    elsewhere = SHARED_ROOT / _digest(str(wanted.resolve())) / wanted.name
    if kept and (elsewhere / kept).exists():
        # It is that of a state folder which had this name before.
        elsewhere = SHARED_ROOT / token_hex(6) / wanted.name
    _make_enterable(elsewhere.parent)
    return elsewhere


def location_file(wanted: Path) -> Path:
    """The file that says where the data went."""
    return wanted.with_name(f"{wanted.name}.location")


def location_note(wanted: Path, place: Path) -> None:
    """Say where the data is, once it is there."""
    if place != wanted:
        write_private(location_file(wanted), f"{place}\n")


def _noted(pointer: Path, kept: str) -> Path:
    place = Path(pointer.read_text().strip())
    try:
        if (place / kept).exists():
            return place
    except PermissionError:
        raise EmbeddedError(
            "data_unreachable",
            f"The database is in {place}, as {pointer} says, and belongs to the account `nobody`; "
            "start Kindling as root, as before.",
        ) from None
    raise EmbeddedError(
        "data_missing",
        f"The database should be in {place}, as {pointer} says, and is not. Bring that folder back, or restore a "
        f"backup into another state folder; to begin with an empty database instead, remove {pointer}.",
    )


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
        if not target.stat().st_mode & stat.S_IXOTH:
            _open_to_all(target)
        return target
    _make_enterable(target.parent)
    half = target.with_name(f"{target.name}.{os.getpid()}")
    # What a killed process of the same number left.
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o700)
    for part in present:
        (half / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(root / part, half / part, symlinks=True)
    _open_to_all(half)
    try:
        half.rename(target)
    except OSError:
        # Another start finished the same copy first.
        shutil.rmtree(half)
    return target


def _open_to_all(folder: Path) -> None:
    """As `chmod -R a+rX`: under a umask of root's the copies are root's alone. The folder itself comes last."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & stat.S_IXUSR else 0))


def _make_enterable(folder: Path) -> None:
    for part in (SHARED_ROOT, *reversed([p for p in (folder, *folder.parents) if SHARED_ROOT in p.parents])):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o755)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
