"""Takes the files of an adapter out of a zip, bounded by what really unpacks, never by what the archive claims."""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kindling_platform.adapters.files import CONFIG, LIMITS_BYTES, NEEDED, WEIGHTS, file_accepted
from kindling_platform.common.errors import KindlingError

MAX_ENTRIES = 64
MAX_RATIO = 40  # weights hardly compress; a file that shrinks further is not one
BLOCK_BYTES = 1024 * 1024
MAX_DIRECTORY_BYTES = 1024 * 1024
# The end of a zip: a record with a comment of up to 64 KiB, and before it the 64-bit form of the same.
TAIL_BYTES = 65536 + 22 + 20 + 56
END_MARK, END_SIZE = b"PK\x05\x06", struct.Struct("<12xI6x")
END64_MARK, END64_SIZE = b"PK\x06\x06", struct.Struct("<40xQ8x")
UNKNOWN = 0xFFFFFFFF


def archive_open(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries to take from a zip, by the plain names they will get.

    Raises:
        KindlingError: zip_refused, pickle_refused, file_not_expected, file_too_large.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise _refused("it is not a readable zip file") from error
    if len(entries) > MAX_ENTRIES:
        raise _refused(f"it holds more than {MAX_ENTRIES} files")
    chosen: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if entry.is_dir() or "__MACOSX" in entry.filename:
            continue
        name = _plain_name(entry)
        if not file_accepted(name):
            continue
        if name in chosen:
            raise _refused(f"it holds {name} twice")
        if entry.file_size > LIMITS_BYTES[name]:
            raise KindlingError(
                "file_too_large", f"{name} may have at most {LIMITS_BYTES[name]:,} bytes.", 413
            )
        if entry.file_size > MAX_RATIO * max(entry.compress_size, 1024):
            raise _refused(f"{name} would unpack to more than {MAX_RATIO} times its size")
        chosen[name] = entry
    if not chosen.keys() >= set(NEEDED):
        raise _refused(f"it must hold {CONFIG} and {WEIGHTS}")
    return chosen


def archive_read(path: Path, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of one entry, in blocks.

    Raises:
        KindlingError: zip_refused, if it is damaged or longer than it claimed.
    """
    seen = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            while block := file.read(BLOCK_BYTES):
                seen += len(block)
                if seen > entry.file_size:
                    raise _refused("a file is longer than the archive says")
                yield block
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused("a file in it is damaged or encrypted") from error


def _check_directory(path: Path) -> None:
    """Refuse a list of contents that would not fit into memory, before zipfile reads it whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
    claims = []
    for mark, field in ((END_MARK, END_SIZE), (END64_MARK, END64_SIZE)):
        at = tail.rfind(mark)
        if at >= 0 and len(tail) >= at + field.size:
            claims.append(field.unpack_from(tail, at)[0])
    known = [claim for claim in claims if claim != UNKNOWN]
    if not known:
        raise _refused("it is not a readable zip file")
    if max(known) > MAX_DIRECTORY_BYTES:
        raise _refused("its list of contents is too long")


def _plain_name(entry: zipfile.ZipInfo) -> str:
    parts = PurePosixPath(entry.filename).parts
    if ".." in parts or entry.filename.startswith("/") or "\\" in entry.filename or len(parts) > 3:
        raise _refused(f"{entry.filename[:100]!r} leads out of the folder")
    if entry.flag_bits & 0x1:
        raise _refused("it is encrypted")
    return parts[-1]


def _refused(why: str) -> KindlingError:
    return KindlingError("zip_refused", f"The zip file is refused: {why}.", param="zip")
