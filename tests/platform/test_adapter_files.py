"""Adapters' files: an upload goes on from what the disk has, and what nobody needs any more goes after an hour."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kindling_people import Customer, make_model
from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.adapters import storage, tidying
from kindling_platform.adapters.models import Adapter, AdapterFile
from kindling_platform.adapters.services import adapter_create, adapter_delete, adapter_file_put
from kindling_platform.adapters.storage import blob_folder, blob_store, upload_folder
from kindling_platform.adapters.tidying import Tidied, files_tidy
from kindling_platform.common.errors import KindlingError
from kindling_rows import Shop, make_adapter, make_shop

pytestmark = pytest.mark.django_db
NAME = "adapter_config.json"


@pytest.fixture(autouse=True)
def home(settings, tmp_path: Path) -> Path:
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, home=str(tmp_path))
    return tmp_path


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def age(folder: Path) -> None:
    long_ago = time.time() - tidying.KEPT_S - 60
    for path in (*folder.iterdir(), folder):
        os.utime(path, (long_ago, long_ago))


def stored(adapter: Adapter, state: str) -> Path:
    """An adapter in this state whose old files are kept."""
    adapter.content_hash, adapter.state = blob_store(adapter_id=adapter.id), state
    adapter.save()
    age(blob_folder(adapter.content_hash))
    return blob_folder(adapter.content_hash)


def test_a_file_that_lost_its_end_is_gone_on_with_from_there(operator: Customer):
    model, content = make_model(operator), b"{" + b" " * 300
    adapter = adapter_create(
        org=operator.org, name="mine", base_ref=model.ref, actor=operator.actor,
        files=[{"name": NAME, "size_bytes": len(content)}],
    )  # fmt: skip

    def put(start: int, end: int) -> AdapterFile:
        return adapter_file_put(
            org=operator.org, adapter_id=adapter.id, name=NAME, blocks=[content[start:end]], offset=start,
            total_bytes=len(content), part_bytes=end - start, actor=operator.actor,
        )  # fmt: skip

    put(0, 200)
    path = upload_folder(adapter.id) / NAME
    os.truncate(path, 120)
    with pytest.raises(KindlingError, match="has 120 bytes") as refused:
        put(200, 250)
    assert (refused.value.code, refused.value.status) == ("range_mismatch", 416)
    assert AdapterFile.objects.get(adapter=adapter, name=NAME).received_bytes == 120
    assert put(120, 250).received_bytes == 250
    assert path.read_bytes() == content[:250]


def test_what_is_noted_and_what_is_named_is_on_the_disk(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    synced: set[int] = set()
    real = os.fsync

    def note(descriptor: int) -> None:
        real(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    blob = blob_folder(blob_store(adapter_id=make_adapter(shop).id))
    assert {path.stat().st_ino for path in (*blob.iterdir(), blob, blob.parent)} <= synced


def test_blobs_go_when_no_adapter_needs_them(shop: Shop):
    used = stored(make_adapter(shop, name="used"), "ready")
    assert files_tidy() == Tidied()
    Adapter.objects.update(state="validating")
    assert files_tidy() == Tidied()
    Adapter.objects.update(state="deleted")
    assert files_tidy().blobs == 1
    assert not used.exists()
    assert [path.name for path in used.parent.iterdir()] == [storage.LOCK]
    assert files_tidy() == Tidied(uploads=0)


def test_a_deleted_adapters_files_stay_for_the_requests_that_run(
    shop: Shop, django_capture_on_commit_callbacks
):
    adapter = make_adapter(shop)
    blob = stored(adapter, "ready")
    with django_capture_on_commit_callbacks(execute=True):
        adapter_delete(org=shop.org, adapter_id=adapter.id, actor=SYSTEM)
    assert files_tidy() == Tidied()
    age(blob)
    assert files_tidy() == Tidied(blobs=1)


def test_a_blob_that_is_stored_again_while_it_is_judged_stays(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    blob = stored(make_adapter(shop, name="old"), "deleted")
    again = make_adapter(shop, name="new")
    judge = tidying.blobs_needed

    def slow(hashes: list[str]) -> set[str]:
        needed = judge(hashes)
        blob_store(adapter_id=again.id)
        return needed

    monkeypatch.setattr(tidying, "blobs_needed", slow)
    assert files_tidy().blobs == 0
    assert blob.is_dir()


def test_uploads_and_half_made_copies_go_unless_they_are_open_or_young(shop: Shop, home: Path):
    open_ones = [make_adapter(shop, name=state) for state in ("uploading", "validating")]
    closed = [make_adapter(shop, name=state) for state in ("rejected", "deleted", "ready")]
    for adapter in (*open_ones, *closed):
        Adapter.objects.filter(id=adapter.id).update(state=adapter.name)
        shutil.copytree(upload_folder(adapter.id), blob_folder(f".{adapter.id}"))
        age(upload_folder(adapter.id))
    assert files_tidy() == Tidied(uploads=3)
    assert {path.name for path in (home / "uploads").iterdir()} == {adapter.id for adapter in open_ones}
    copies = sorted(blob_folder("").glob(".adp_*"))
    for copy in copies[1:]:
        age(copy)
    assert files_tidy() == Tidied(copies=4)
    assert sorted(blob_folder("").glob(".adp_*")) == copies[:1]


def test_an_empty_database_says_nothing_about_the_files(shop: Shop):
    blob = stored(make_adapter(shop), "deleted")
    Adapter.objects.all().delete()
    assert files_tidy() == Tidied()
    assert blob.is_dir()


def test_a_folder_that_cannot_be_deleted_holds_up_no_other(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    for name in ("one", "two"):
        age(upload_folder(make_adapter(shop, name=name).id))
    Adapter.objects.update(state="rejected")
    real, left = shutil.rmtree, iter([False, True])

    def moody(path: Path) -> None:
        if not next(left):
            raise PermissionError
        real(path)

    monkeypatch.setattr(tidying.shutil, "rmtree", moody)
    assert files_tidy() == Tidied(uploads=1)
