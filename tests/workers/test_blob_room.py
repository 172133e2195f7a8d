"""The agent keeps a host's disk within its bound by what can come again, and by nothing else."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kindling_object_store import S3, s3_running
from kindling_platform.common.objectstore.blobs import WHOLE, blob_fetch, blob_put, key
from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.local import LOCK, STORE_LOCK
from kindling_platform.common.objectstore.manifest import FILES, manifest_of
from kindling_platform.common.objectstore.place import store_place
from kindling_workers.agent import blob_room
from kindling_workers.agent.blob_room import BlobRoom

SIZE = 1000
HOUR = 3600.0


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
    return ObjectStore(store_place(s3.settings()), retries=0)


class Engine:
    """What says which adapters it uses."""

    def __init__(self) -> None:
        self.adapters: list[dict[str, object]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"adapters": engine.adapters}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def uses(self, name: str, *, in_use: int = 1, state: str = "ready", tier: str = "host") -> None:
        self.adapters.append({"adapter": name, "state": state, "tier": tier, "in_use": in_use})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


def made(blobs: Path, letter: str, hours_ago: float) -> str:
    """A folder of about SIZE bytes that was last used so long ago; gives its hash."""
    folder = blobs / "new"
    folder.mkdir(parents=True)
    (folder / FILES[0]).write_text("{}")
    (folder / FILES[1]).write_bytes(letter.encode() * (SIZE - 2))
    content_hash = manifest_of(folder).content_hash
    folder.rename(blobs / content_hash)
    used_at = time.time() - hours_ago * HOUR
    os.utime(blobs / content_hash, (used_at, used_at))
    return content_hash


def here(blobs: Path) -> set[str]:
    return {path.name for path in blobs.iterdir()} - {LOCK, STORE_LOCK}


def test_the_longest_unused_goes_and_what_is_needed_or_nowhere_else_stays(
    s3: S3, store: ObjectStore, engine: Engine, tmp_path: Path
):
    names = {letter: made(tmp_path, letter, 20 - at) for at, letter in enumerate("abcdefg")}
    young = made(tmp_path, "y", 0.01)
    for letter, name in names.items():
        if letter != "c":
            blob_put(store, name, tmp_path)
    for name, at in [(names[letter], 20 - at) for at, letter in enumerate("abcdefg")]:
        os.utime(tmp_path / name, (time.time() - at * HOUR,) * 2)
    s3.client.delete_object(Bucket="adapters", Key=f"here/{key(names['d'], WHOLE)}")
    engine.uses(names["a"])
    engine.uses(names["b"], in_use=0, state="loading", tier="disk")
    engine.uses(names["f"], in_use=0)
    assert BlobRoom(store, tmp_path, 0).make([engine.url]) == 0
    assert BlobRoom(store, tmp_path, 9 * SIZE).make([engine.url]) == 0
    room = BlobRoom(store, tmp_path, 7 * SIZE)
    assert room.make([engine.url]) == 1
    assert here(tmp_path) == {*(names[letter] for letter in "abcdfg"), young}, "e was the oldest that may go"
    assert room.make([engine.url], 2 * SIZE) == 2, "room for two more"
    assert here(tmp_path) == {*(names[letter] for letter in "abcd"), young}
    assert room.make([engine.url], 9 * SIZE) == 0, "the rest stays, past the bound"
    assert time.time() - (tmp_path / names["a"]).stat().st_mtime < HOUR, "what is used now is young"
    assert blob_fetch(store, names["e"], tmp_path) == SIZE


@pytest.mark.parametrize("trouble", ["store", "engine"])
def test_nothing_goes_while_nobody_says_what_may(
    s3: S3, store: ObjectStore, engine: Engine, tmp_path: Path, trouble: str
):
    name = made(tmp_path, "a", 5)
    blob_put(store, name, tmp_path)
    room = BlobRoom(store, tmp_path, 1)
    os.utime(tmp_path / name, (time.time() - 5 * HOUR,) * 2)
    if trouble == "store":
        s3.status = 503
    else:
        engine.adapters = [{"nonsense": True}]
    assert room.make([engine.url]) == 0
    assert here(tmp_path) == {name}
    s3.status, engine.adapters = 0, []
    assert room.make([engine.url]) == 1


def test_one_that_is_used_at_this_moment_gets_its_place_back(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = made(tmp_path, "a", 5)
    blob_put(store, name, tmp_path)
    found = blob_room.blob_found

    def used_meanwhile(store: ObjectStore, content_hash: str) -> object:
        os.utime(tmp_path / content_hash)
        return found(store, content_hash)

    monkeypatch.setattr(blob_room, "blob_found", used_meanwhile)
    assert BlobRoom(store, tmp_path, 1).make([]) == 0
    assert here(tmp_path) == {name}
    shutil.rmtree(tmp_path / name)
    assert BlobRoom(store, tmp_path, 1).make([]) == 0
