"""Batches that are begun at the same moment, and behind an organisation's end."""

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from kindling_people import Customer, make_customer
from kindling_platform.batches import beginning
from kindling_platform.batches.beginning import batch_begin, batch_id_make
from kindling_platform.batches.models import Batch, StoredFile
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

pytestmark = pytest.mark.django_db(transaction=True)


def begin(by: Customer, batch_id: str, pieces: Iterator[bytes]) -> str:
    """ "" or the code of its refusal."""
    try:
        batch_begin(
            org=by.org, batch_id=batch_id, key_id="key_1", key_digest=b"d", endpoint="/v1/embeddings",
            filename="in.jsonl", pieces=pieces, actor=by.actor,
        )  # fmt: skip
    except KindlingError as error:
        return error.code
    return ""


def two_at_once(by: Customer, ids: list[str], pieces: Callable[[], Iterator[bytes]]) -> list[str]:
    codes = []

    def run(batch_id: str) -> None:
        codes.append(begin(by, batch_id, pieces()))
        connection.close()

    threads = [threading.Thread(target=run, args=[batch_id]) for batch_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return sorted(codes)


@pytest.mark.parametrize(
    ("bound", "most", "code"), [("MAX_ACTIVE", 1, "too_many_batches"), ("MAX_ORG_BYTES", 3, "files_full")]
)
def test_two_at_once_come_one_after_the_other(
    bound: str, most: int, code: str, monkeypatch: pytest.MonkeyPatch
):
    ada, both = make_customer("ada"), threading.Barrier(2)
    monkeypatch.setattr(beginning, bound, most)

    def pieces() -> Iterator[bytes]:
        both.wait(timeout=10)
        yield b"{}"

    assert two_at_once(ada, [batch_id_make(), batch_id_make()], pieces) == ["", code]
    assert (Batch.objects.count(), StoredFile.objects.count()) == (1, 1)


def test_the_same_one_twice_at_once_is_one():
    ada = make_customer("ada")
    assert two_at_once(ada, [batch_id_make()] * 2, lambda: iter([b"{}"] * 1000)) == ["", ""]
    assert (Batch.objects.count(), StoredFile.objects.count()) == (1, 1)


def test_nothing_is_left_behind_an_organisation_that_ends_meanwhile():
    ada = make_customer("ada")

    def pieces() -> Iterator[bytes]:
        yield b"{}"
        type(ada.org).objects.filter(id=ada.org.id).update(suspended_at=now(), deleting_at=now())

    assert begin(ada, batch_id_make(), pieces()) == "account_suspended"
    assert not Batch.objects.exists() and not StoredFile.objects.exists()
