"""The backup's file: a tar of what was staged, which begins with a manifest and ends with every file's digest."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from kindling_platform.embedded.backups.sealing import SealedReader, SealedWriter, is_sealed
from kindling_platform.embedded.errors import EmbeddedError

FORMAT = 1
MANIFEST, DIGESTS = "manifest.json", "digests.json"
BLOCK_BYTES = 1 << 20


def archive_write(file: IO[bytes], folder: Path, manifest: dict[str, Any], passphrase: str) -> None:
    """Pack a folder, sealed when there is a passphrase."""
    out = cast(IO[bytes], SealedWriter(file, passphrase)) if passphrase else file
    digests: dict[str, str] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_text(tar, MANIFEST, json.dumps({**manifest, "format": FORMAT}))
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(folder).as_posix()
            info = tarfile.TarInfo(name)
            with path.open("rb") as content:
                # A log may grow meanwhile: what stands there now goes in.
                info.size, info.mode = path.stat().st_size, 0o600
                reader = _Digesting(content)
                tar.addfile(info, cast(IO[bytes], reader))
            digests[name] = reader.digest.hexdigest()
        _add_text(tar, DIGESTS, json.dumps(digests))
    if out is not file:
        out.close()


def archive_unpack(source: Path, folder: Path, passphrase: str) -> dict[str, Any]:
    """Unpack into a folder and check every digest; gives the manifest.

    Errors: `backup_missing`, `passphrase_missing`, `passphrase_wrong`, `backup_damaged`, `backup_newer`.
    """
    found: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    promised: dict[str, str] | None = None
    try:
        with _opened(source, passphrase) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    raise EmbeddedError("backup_damaged", f"{member.name} in the backup is not a plain file.")
                if member.name == MANIFEST:
                    manifest = _manifest(content.read())
                elif member.name == DIGESTS:
                    promised = json.loads(content.read())
                else:
                    found[member.name] = _unpack_one(content, folder, member.name)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise EmbeddedError("backup_damaged", f"{source} is no backup of Kindling, or is damaged.") from error
    if not manifest or promised != found:
        raise EmbeddedError("backup_damaged", f"{source} is cut off, or files in it are damaged.")
    return manifest


@contextmanager
def _opened(source: Path, passphrase: str) -> Iterator[IO[bytes]]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise EmbeddedError("backup_missing", f"{source} cannot be read ({error.strerror}).") from error
    with file:
        if not is_sealed(file):
            yield file
        elif passphrase:
            yield cast(IO[bytes], io.BufferedReader(SealedReader(file, passphrase)))
        else:
            raise EmbeddedError(
                "passphrase_missing",
                "This backup is sealed: give its passphrase with --passphrase-file.",
            )


def _manifest(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    if found.get("format") != FORMAT:
        raise EmbeddedError(
            "backup_newer", "Another version of Kindling wrote this backup; restore it with that one."
        )
    return found


def _unpack_one(content: IO[bytes], folder: Path, name: str) -> str:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise EmbeddedError("backup_damaged", f"{name} in the backup leads out of the state folder.")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with target.open("wb") as out:
        target.chmod(0o600)
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o600
    tar.addfile(info, io.BytesIO(text.encode()))


class _Digesting:
    """Hashes what is read from a file, so that packing reads it once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
