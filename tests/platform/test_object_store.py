"""What is put into an object store is whole or not there, and what comes back is what was put, whatever goes wrong."""

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kindling_object_store import BUCKET, KEY_ID, PREFIX, S3, SECRET, s3_running
from kindling_platform.common.objectstore import client as client_module
from kindling_platform.common.objectstore.blobs import (
    WHOLE,
    blob_delete,
    blob_fetch,
    blob_found,
    blob_put,
    key,
)
from kindling_platform.common.objectstore.check import place_check
from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import StoreError
from kindling_platform.common.objectstore.local import LOCK, STORE_LOCK
from kindling_platform.common.objectstore.manifest import FILES, manifest_of
from kindling_platform.common.objectstore.owner import KEY as OWNER
from kindling_platform.common.objectstore.owner import installation_id, place_claim
from kindling_platform.common.objectstore.place import store_address, store_place
from kindling_small_files import files_end_at

CONFIG, WEIGHTS = FILES


class Killed(BaseException):
    """The process ends here; nothing that catches errors may catch it."""


class Mortal(ObjectStore):
    """Dies before the call of this number, from 0 on."""

    def __init__(self, s3: S3, at: int) -> None:
        super().__init__(store_place(s3.settings()))
        self._left = at

    def _ask(self, ask: Callable[[Any, Any], Any], raw: tuple[str, ...] = ()) -> Any:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return super()._ask(ask, raw)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_running() as running:
        yield running


@pytest.fixture
def s3(server: S3) -> S3:
    server.reset()
    return server


@pytest.fixture
def store(s3: S3) -> ObjectStore:
    return ObjectStore(store_place(s3.settings()), retries=1)


def made(blobs: Path, weights: bytes = b"weights" * 100) -> str:
    """A folder in `blobs`; gives its hash."""
    folder = blobs / "new"
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text("{}")
    (folder / WEIGHTS).write_bytes(weights)
    content_hash = manifest_of(folder).content_hash
    folder.rename(blobs / content_hash)
    return content_hash


def left(blobs: Path) -> set[str]:
    return {path.name for path in blobs.iterdir()} - {LOCK, STORE_LOCK}


def test_a_folder_goes_and_comes_back_in_parts(s3: S3, store: ObjectStore, tmp_path: Path):
    weights = os.urandom(client_module.PART_BYTES * 2 + 77)
    content_hash = made(tmp_path, weights)
    assert blob_put(store, content_hash, tmp_path)
    assert s3.names() == [key(content_hash, name) for name in (CONFIG, WEIGHTS, WHOLE)]
    assert s3.read(key(content_hash, WEIGHTS)) == weights
    assert sum("uploadId" in path for verb, path in s3.calls if verb == "PUT") == 3
    assert not blob_put(store, content_hash, tmp_path), "it is there already"
    shutil.rmtree(tmp_path / content_hash)
    assert blob_fetch(store, content_hash, tmp_path) == len(weights) + 2
    assert manifest_of(tmp_path / content_hash).content_hash == content_hash
    assert left(tmp_path) == {content_hash}


def test_whoever_is_killed_while_putting_or_deleting_leaves_nothing_half(s3: S3, tmp_path: Path):
    content_hash, whole = made(tmp_path), ObjectStore(store_place(s3.settings()))
    kills = 0
    for at in itertools.count():
        try:
            blob_put(Mortal(s3, at), content_hash, tmp_path)
        except Killed:
            kills += 1
            assert blob_found(whole, content_hash) is None
        else:
            break
    assert kills >= 5
    assert blob_found(whole, content_hash) is not None
    for at in itertools.count():
        blob_put(whole, content_hash, tmp_path)
        try:
            blob_delete(Mortal(s3, at), content_hash, [*FILES, WHOLE])
        except Killed:
            found = blob_found(whole, content_hash)
            assert (found is not None) == (at == 0), "half deleted is not there"
        else:
            break
    assert s3.names() == []


def rewritten(s3: S3, name: str, old: bytes, new: bytes) -> None:
    s3.write(name, s3.read(name).replace(old, new))


def removed(s3: S3, name: str) -> None:
    s3.client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda s3, h: s3.write(key(h, WEIGHTS), b"weights" * 50), "object_store_damaged"),
        (lambda s3, h: s3.write(key(h, WEIGHTS), b""), "object_store_damaged"),
        (lambda s3, h: s3.write(key(h, WEIGHTS), b"Weights" * 100), "object_store_damaged"),
        (lambda s3, h: removed(s3, key(h, WEIGHTS)), "object_store_missing"),
        (lambda s3, h: removed(s3, key(h, WHOLE)), "object_store_missing"),
        (lambda s3, h: s3.write(key(h, WHOLE), b"{}"), "object_store_missing"),
        (lambda s3, h: rewritten(s3, key(h, WHOLE), b'"sha256":"', b'"sha256":"0'), "object_store_damaged"),
        (lambda s3, h: rewritten(s3, key(h, WHOLE), WEIGHTS.encode(), b"../../evil"), "object_store_missing"),
    ],
)
def test_what_is_not_as_it_was_put_is_not_taken(
    s3: S3, store: ObjectStore, tmp_path: Path, harm: Any, code: str
):
    content_hash = made(tmp_path)
    blob_put(store, content_hash, tmp_path)
    shutil.rmtree(tmp_path / content_hash)
    harm(s3, content_hash)
    with pytest.raises(StoreError) as refused:
        blob_fetch(store, content_hash, tmp_path)
    assert refused.value.code == code
    assert left(tmp_path) == set()
    assert blob_found(store, content_hash) is None or code == "object_store_damaged"


def test_damaged_files_of_this_disk_are_not_put(s3: S3, store: ObjectStore, tmp_path: Path):
    content_hash = made(tmp_path)
    (tmp_path / content_hash / WEIGHTS).write_bytes(b"bit rot")
    with pytest.raises(StoreError) as refused:
        blob_put(store, content_hash, tmp_path)
    assert refused.value.code == "object_store_damaged"
    assert s3.names() == []


def test_a_disk_that_fills_up_keeps_nothing_half(store: ObjectStore, tmp_path: Path):
    content_hash = made(tmp_path, b"w" * 5000)
    blob_put(store, content_hash, tmp_path)
    shutil.rmtree(tmp_path / content_hash)
    with files_end_at(2000), pytest.raises(StoreError) as refused:
        blob_fetch(store, content_hash, tmp_path)
    assert refused.value.code == "object_store_disk_full"
    assert left(tmp_path) == set()
    assert blob_fetch(store, content_hash, tmp_path) == 5002


def test_two_at_once_get_one_folder(s3: S3, store: ObjectStore, tmp_path: Path):
    content_hash, errors = made(tmp_path), []
    blob_put(store, content_hash, tmp_path)
    for copy in ("one", "two"):
        shutil.copytree(tmp_path / content_hash, tmp_path / copy)
    shutil.rmtree(tmp_path / content_hash)

    def put_again(copy: str) -> None:
        (tmp_path / copy).rename(tmp_path / content_hash)

    s3.hold = WEIGHTS

    def fetch() -> None:
        try:
            blob_fetch(store, content_hash, tmp_path)
        except Exception as error:
            errors.append(error)

    running = threading.Thread(target=fetch)
    running.start()
    assert s3.is_held.wait(30)
    put_again("one")
    s3.go_on.set()
    running.join(30)
    assert errors == []
    assert left(tmp_path) == {content_hash, "two"}
    assert manifest_of(tmp_path / content_hash).content_hash == content_hash


DENIED = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>".encode()


@pytest.mark.parametrize(
    ("others", "status", "body", "code"),
    [
        ({"KINDLING_OBJECT_STORE": "s3://no-such-bucket/here"}, 0, b"", "object_store_no_bucket"),
        ({"KINDLING_OBJECT_STORE_ENDPOINT": "http://127.0.0.1:9"}, 0, b"", "object_store_away"),
        ({}, 403, DENIED, "object_store_refused"),
        ({}, 401, b"", "object_store_refused"),
        ({}, 301, b"<Error><Code>PermanentRedirect</Code></Error>", "object_store_no_bucket"),
        ({}, 500, b"<Error><Code>InternalError</Code></Error>", "object_store_away"),
        ({}, 503, b"<Error><Code>SlowDown</Code></Error>", "object_store_away"),
        ({}, 200, b"<html>a portal that wants a password</html>", "object_store_taken"),
    ],
)
def test_each_trouble_has_its_sentence_and_tells_no_secret(
    s3: S3, tmp_path: Path, others: dict[str, str], status: int, body: bytes, code: str
):
    s3.status, s3.body = status, body
    store = ObjectStore(store_place(s3.settings(**others)), retries=1)
    with pytest.raises(StoreError) as refused:
        place_check(store, "ours")
    error = refused.value
    assert error.code == code
    told = f"{error} {error.message} {error.detail} {error!r} {error.__cause__!r}"
    assert KEY_ID not in told and SECRET not in told and "127.0.0.1" not in told
    assert error.message.endswith(".")


def test_a_slow_store_is_given_up_in_time(s3: S3, store: ObjectStore, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT_S", 0.3)
    content_hash = made(tmp_path)
    blob_put(store, content_hash, tmp_path)
    shutil.rmtree(tmp_path / content_hash)
    s3.hold = WEIGHTS
    with pytest.raises(StoreError) as refused:
        blob_fetch(ObjectStore(store_place(s3.settings()), retries=0), content_hash, tmp_path)
    assert refused.value.code == "object_store_away"
    s3.go_on.set()
    with pytest.raises(StoreError) as refused:
        blob_fetch(store, content_hash, tmp_path, within_s=-1.0)
    assert refused.value.code == "object_store_slow"
    assert left(tmp_path) == set()


def test_a_place_belongs_to_who_came_first(s3: S3, store: ObjectStore):
    ours, theirs = installation_id("our secret"), installation_id("their secret")
    assert ours != theirs and "secret" not in ours
    place_check(store, ours)
    assert s3.names() == [], "a look takes nothing and leaves nothing"
    place_claim(store, ours)
    assert not store.put_new(OWNER, b"{}")
    place_claim(store, ours)
    for ask in (place_claim, place_check):
        with pytest.raises(StoreError) as refused:
            ask(store, theirs)
        assert refused.value.code == "object_store_taken"
    place_check(store, ours)
    assert s3.names() == [OWNER]


@pytest.mark.parametrize(
    "text",
    [
        "bucket/x",
        "http://bucket/x",
        "s3://",
        "s3://a",
        "s3://user:pw@bucket",
        "s3://bucket/../x",
        "s3://b ucket",
    ],
)
def test_other_addresses_are_none(text: str):
    with pytest.raises(ValueError):
        store_address(text)
    assert store_address("s3://my-bucket.eu/a/b") == "s3://my-bucket.eu/a/b"
