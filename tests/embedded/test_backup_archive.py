"""The backup's file: every byte that changes or goes missing is noticed."""

import io
from pathlib import Path

import pytest

from kindling_platform.embedded.backups.archive import archive_unpack, archive_write
from kindling_platform.embedded.backups.dumps import database_dump
from kindling_platform.embedded.backups.sealing import CHUNK_BYTES, MAGIC, SALT_BYTES, TAG_BYTES
from kindling_platform.embedded.errors import EmbeddedError

PHRASE = "a passphrase of the test"
CONTENT = bytes(range(256)) * 12_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "blobs" / "x").mkdir(parents=True)
    (made / "blobs" / "x" / "weights").write_bytes(CONTENT)
    (made / "secrets.env").write_text("A=b\n")
    return made


def packed(folder: Path, phrase: str) -> bytes:
    out = io.BytesIO()
    archive_write(out, folder, {"made_at": "now"}, phrase)
    return out.getvalue()


def refusal(tmp_path: Path, data: bytes, phrase: str) -> str:
    file = tmp_path / "spoilt"
    file.write_bytes(data)
    with pytest.raises(EmbeddedError) as refused:
        archive_unpack(file, tmp_path / "out", phrase)
    return refused.value.code


@pytest.mark.parametrize("phrase", ["", PHRASE])
def test_what_goes_in_comes_out(folder: Path, tmp_path: Path, phrase: str):
    file = tmp_path / "file"
    file.write_bytes(packed(folder, phrase))
    assert archive_unpack(file, tmp_path / "out", phrase)["made_at"] == "now"
    assert (tmp_path / "out/blobs/x/weights").read_bytes() == CONTENT
    assert (tmp_path / "out/secrets.env").stat().st_mode & 0o077 == 0


def test_open_file_that_is_spoilt_or_cut_is_refused(folder: Path, tmp_path: Path):
    data = packed(folder, "")
    at = data.index(CONTENT[:512]) + 5000
    assert refusal(tmp_path, data[:at] + b"!" + data[at + 1 :], "") == "backup_damaged"
    assert refusal(tmp_path, data[:at], "") == "backup_damaged"
    assert refusal(tmp_path, b"no backup", "") == "backup_damaged"


def test_sealed_file_that_is_spoilt_cut_or_reordered_is_refused(folder: Path, tmp_path: Path):
    data = packed(folder, PHRASE)
    head, chunk = len(MAGIC) + SALT_BYTES, CHUNK_BYTES + TAG_BYTES
    spoilt = bytearray(data)
    spoilt[head + chunk + 9] ^= 1
    first, second = data[head : head + chunk], data[head + chunk : head + 2 * chunk]
    swapped = data[:head] + first + data[head + 2 * chunk :] + second
    assert refusal(tmp_path, bytes(spoilt), PHRASE) == "backup_damaged"
    assert refusal(tmp_path, data[: head + 2 * chunk], PHRASE) == "backup_damaged"
    assert refusal(tmp_path, swapped, PHRASE) == "backup_damaged"
    assert refusal(tmp_path, data, "") == "passphrase_missing"
    assert refusal(tmp_path, data, "wrong") == "passphrase_wrong"


def test_missing_file_is_said(tmp_path: Path):
    with pytest.raises(EmbeddedError) as refused:
        archive_unpack(tmp_path / "nowhere", tmp_path / "out", "")
    assert refused.value.code == "backup_missing"


def test_dump_that_fails_leaves_no_half_a_file_and_names_no_password(tmp_path: Path):
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    with pytest.raises(EmbeddedError) as refused:
        database_dump(url, tmp_path / "database.dump")
    assert refused.value.code == "dump_failed" and "secret" not in refused.value.message
    assert not list(tmp_path.iterdir())
