"""What an adapter's folder consists of: its files with their sizes and hashes, and the hash of all of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

BLOCK_BYTES = 1024 * 1024
MOST_BYTES = 64 * 1024
FILES = ("adapter_config.json", "adapter_model.safetensors")


class FileFacts(msgspec.Struct, frozen=True):
    """Size in bytes, and the sha256 in lower-case hex."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """A folder's files by name."""

    files: dict[str, FileFacts]
    version: int = 1

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())

    @property
    def content_hash(self) -> str:
        return hash_of({name: file.sha256 for name, file in self.files.items()})


class Digest:
    """The facts of a file whose blocks come by."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def take(self, block: bytes) -> None:
        self._sha256.update(block)
        self.size_bytes += len(block)

    def facts(self) -> FileFacts:
        return FileFacts(self.size_bytes, self._sha256.hexdigest())


def hash_of(hashes: Mapping[str, str]) -> str:
    """Identity of an adapter: sha256 over the names and sha256s of its files."""
    whole = hashlib.sha256()
    for name in sorted(hashes):
        whole.update(f"{name}\0{hashes[name]}\n".encode())
    return whole.hexdigest()


def manifest_of(folder: Path) -> Manifest:
    """Read the files of an adapter's folder. Errors: OSError."""
    return Manifest({name: _facts(folder / name) for name in FILES})


def manifest_read(data: bytes) -> Manifest | None:
    """None for what is no list of an adapter's files."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError:
        return None
    is_ours = found.version == 1 and set(found.files) == set(FILES)
    return found if is_ours and all(file.size_bytes > 0 for file in found.files.values()) else None


def _facts(path: Path) -> FileFacts:
    digest = Digest()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.take(block)
    return digest.facts()
