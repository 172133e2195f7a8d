"""Adapters' files in the object store: those from before get there, nobody's go, and whatever is needed stays."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kindling_object_store import S3, s3_running
from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.adapters import stored, stored_tidying
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.services import adapter_delete
from kindling_platform.adapters.storage import blob_folder, blob_store
from kindling_platform.adapters.stored import CaughtUp, blob_keep, blobs_catch_up, store_pause
from kindling_platform.adapters.stored_tidying import StoredTidied, stored_tidy
from kindling_platform.common.clock import now
from kindling_platform.common.objectstore.blobs import UNNEEDED, WHOLE, key
from kindling_platform.common.objectstore.errors import StoreError
from kindling_platform.common.objectstore.local import puts_locked
from kindling_platform.common.objectstore.owner import KEY as OWNER
from kindling_rows import Shop, make_adapter, make_shop

pytestmark = pytest.mark.django_db
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_running() as running:
        yield running


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> S3:
    """An installation that uses it, in a process that has just begun."""
    server.reset()
    for name, value in server.settings(KINDLING_HOME=str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, home=str(tmp_path))
    begin_anew()
    return server


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def begin_anew() -> None:
    stored._memory.cache_clear()
    stored._opened.cache_clear()


def ready(shop: Shop, name: str, *, state: str = "ready") -> Adapter:
    """One with files of its own, on this disk alone."""
    adapter = make_adapter(shop, name=name)
    config = stored.blob_folder("").parent / "uploads" / adapter.id / CONFIG
    config.write_text(config.read_text() + " " * (1 + int(name[1:])))
    adapter.content_hash, adapter.state = blob_store(adapter_id=adapter.id), state
    adapter.save()
    return adapter


def in_store(s3: S3) -> set[str]:
    return {name.split("/")[1] for name in s3.names() if name.endswith(WHOLE)}


def later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """The clock by which what is in the store is old."""
    monkeypatch.setattr(stored_tidying, "now", lambda: now() + timedelta(hours=hours))


def test_what_was_there_before_gets_there_bit_by_bit(s3: S3, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    adapters = [ready(shop, f"a{index}") for index in range(3)]
    Adapter.objects.filter(id=adapters[2].id).update(state="deleted")
    clock = iter(range(0, 1000, 10))
    with monkeypatch.context() as patched:
        patched.setattr(stored.time, "monotonic", lambda: float(next(clock)))
        first = blobs_catch_up(within_s=35)
    assert (first.done, first.left) == (1, 1)
    assert blobs_catch_up(within_s=60) == CaughtUp(done=1)
    hashes = {adapter.content_hash for adapter in adapters[:2]}
    assert in_store(s3) == hashes
    calls = len(s3.calls)
    assert blobs_catch_up(within_s=60) == CaughtUp()
    assert len(s3.calls) == calls, "what is known is not asked again"
    begin_anew()
    shutil.rmtree(blob_folder(adapters[0].content_hash))
    assert blobs_catch_up(within_s=60) == CaughtUp(), "a new process sees what is there"
    s3.write(key(adapters[1].content_hash, WEIGHTS), b"cut off")
    whole = s3.read(key(adapters[0].content_hash, WHOLE))
    s3.client.delete_object(Bucket="adapters", Key=f"here/{key(adapters[0].content_hash, WHOLE)}")
    begin_anew()
    assert blobs_catch_up(within_s=60) == CaughtUp(done=1, lost=1)
    s3.write(key(adapters[0].content_hash, WHOLE), whole)
    assert blobs_catch_up(within_s=60) == CaughtUp(), "somebody has brought it back"
    assert (
        s3.read(key(adapters[1].content_hash, WEIGHTS))
        == (blob_folder(adapters[1].content_hash) / WEIGHTS).read_bytes()
    )


def test_a_damaged_one_holds_up_no_other(s3: S3, shop: Shop):
    adapters = sorted((ready(shop, f"a{index}") for index in range(2)), key=lambda one: one.content_hash)
    (blob_folder(adapters[0].content_hash) / WEIGHTS).write_bytes(b"bit rot")
    assert blobs_catch_up(within_s=60) == CaughtUp(done=1)
    assert in_store(s3) == {adapters[1].content_hash}
    assert store_pause() is None


def test_a_store_that_is_away_is_left_alone_for_a_moment(s3: S3, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    adapter = ready(shop, "a1")
    s3.status, s3.body = 403, b"<Error><Code>AccessDenied</Code></Error>"
    for _ in range(2):
        with pytest.raises(StoreError) as refused:
            blob_keep(adapter.content_hash)
        assert refused.value.code == "object_store_refused"
    assert len(s3.calls) == 1, "the second try asked nobody"
    s3.status = 0
    monkeypatch.setattr(stored, "PAUSE_S", -1.0)
    stored._memory(stored.load_object_store()).paused_until = 0.0
    assert blob_keep(adapter.content_hash)
    assert not blob_keep(adapter.content_hash)
    assert in_store(s3) == {adapter.content_hash}


def test_without_a_store_nothing_is_asked_or_loaded(
    shop: Shop, settings: Any, tmp_path: Path, monkeypatch: Any
):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, home=str(tmp_path))
    monkeypatch.delenv("KINDLING_OBJECT_STORE", raising=False)
    adapter = ready(shop, "a1")
    assert (blob_keep(adapter.content_hash), store_pause()) == (False, None)
    assert (blobs_catch_up(within_s=1), stored_tidy()) == (CaughtUp(), StoredTidied())


def test_nobodys_files_go_after_an_hour_and_needed_ones_stay(
    s3: S3, shop: Shop, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
):
    gone, kept = ready(shop, "a1"), ready(shop, "a2")
    for adapter in (gone, kept):
        blob_keep(adapter.content_hash)
    s3.write(f"blobs/{'ab' * 32}/{WEIGHTS}", b"somebody was killed while they put this")
    with django_capture_on_commit_callbacks(execute=True):
        adapter_delete(org=shop.org, adapter_id=gone.id, actor=SYSTEM)
    assert stored_tidy() == StoredTidied(), "what is young may be on its way"
    later(monkeypatch, 1.1)
    assert stored_tidy() == StoredTidied(marked=1), "what this disk has may still be used"
    shutil.rmtree(blob_folder(gone.content_hash))
    assert stored_tidy() == StoredTidied(marked=1, deleted=1)
    assert in_store(s3) == {gone.content_hash, kept.content_hash}
    assert f"blobs/{'ab' * 32}/{WEIGHTS}" not in s3.names()
    assert stored_tidy() == StoredTidied(deleted=1)
    assert s3.names() == [*(key(kept.content_hash, name) for name in (CONFIG, WEIGHTS, WHOLE)), OWNER]
    Adapter.objects.all().delete()
    assert stored_tidy() == StoredTidied(), "a database without adapters says nothing"


def test_what_is_needed_again_or_being_put_stays(s3: S3, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    old = ready(shop, "a1", state="deleted")
    blob_keep(old.content_hash)
    folder = blob_folder(old.content_hash)
    away = folder.rename(folder.with_name("away"))
    later(monkeypatch, 1.1)
    assert stored_tidy().marked == 1
    monkeypatch.setattr(stored_tidying, "LOCK_WITHIN_S", 0.05)
    held, done = threading.Event(), threading.Event()

    def put() -> None:
        with puts_locked(blob_folder("")):
            held.set()
            done.wait(30)

    putting = threading.Thread(target=put)
    putting.start()
    assert held.wait(30)
    assert stored_tidy() == StoredTidied(), "nothing is deleted while something is put"
    done.set()
    putting.join(30)
    Adapter.objects.filter(id=old.id).update(state="validating")
    assert stored_tidy() == StoredTidied()
    assert key(old.content_hash, UNNEEDED) not in s3.names()
    Adapter.objects.filter(id=old.id).update(state="deleted")
    assert stored_tidy().marked == 1
    away.rename(folder)
    assert not blob_keep(old.content_hash)
    assert key(old.content_hash, UNNEEDED) not in s3.names(), "put again, it is young again"
    assert in_store(s3) == {old.content_hash}


def test_anothers_place_is_neither_written_nor_swept(s3: S3, shop: Shop, settings: Any, monkeypatch: Any):
    theirs = ready(shop, "a1")
    blob_keep(theirs.content_hash)
    before = s3.names()
    begin_anew()
    settings.SECRET_KEY = "of another installation that was given the same place"
    ours = ready(shop, "a2")
    Adapter.objects.filter(id=theirs.id).delete()
    shutil.rmtree(blob_folder(theirs.content_hash))
    later(monkeypatch, 9)
    for act in (lambda: blob_keep(ours.content_hash), stored_tidy):
        with pytest.raises(StoreError) as refused:
            act()
        assert refused.value.code == "object_store_taken"
    assert s3.names() == before


def test_a_run_deletes_no_more_than_its_share(s3: S3, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    ready(shop, "a1")
    monkeypatch.setattr(stored_tidying, "MOST", 2)
    for index in range(3):
        s3.write(f"blobs/{index:064x}/{WEIGHTS}", b"left")
    os.utime(blob_folder(""), (time.time(), time.time()))
    later(monkeypatch, 1.1)
    assert [stored_tidy() for _ in range(3)] == [StoredTidied(2, 0), StoredTidied(0, 2), StoredTidied(1, 0)]
