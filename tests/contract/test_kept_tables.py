"""What the gateway writes by SQL: its tables are as its tests take them to be, and its queries run."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection

from kindling_kept import KEPT_TABLES
from kindling_people import Customer, make_customer
from kindling_platform.common.clock import now
from kindling_platform.gateway.surface.feedback import WRITE
from kindling_platform.gateway.surface.responses.store import DEFAULT_DAYS, DELETE, INSERT, READ, TURNS
from kindling_platform.responses import selectors
from kindling_platform.responses.models import Retention, StoredResponse
from kindling_platform.responses.services import responses_delete, responses_purge, retention_set
from kindling_platform.usage.feedback import feedback_get, feedback_purge
from kindling_platform.usage.models import Feedback, IdempotentReply, UsageEvent
from kindling_platform.usage.replies import replies_purge

pytestmark = pytest.mark.django_db
TABLES = (
    *("responses_storedresponse", "responses_retention", "gateway_request", "usage_feedback"),
    *("usage_spooledusage", "usage_idempotentreply"),
    *("requestlog_logsetting", "requestlog_loggedrequest"),
    *("batches_storedfile", "batches_filepart", "batches_batch", "batches_batchresult"),
)
COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, character_maximum_length"
    " FROM information_schema.columns WHERE table_schema = %s AND table_name = ANY(%s)"
)


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


def run(query: str, values: object) -> list[dict]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def put(org_id: str, response_id: str, previous: str = "") -> list[dict]:
    values = {"id": response_id, "org": org_id, "key": "key_1", "previous": previous, "body": b"{}", "input": b"[]",
              "days": DEFAULT_DAYS}  # fmt: skip
    return run(INSERT, values)


def test_the_tables_of_the_gateways_tests_are_the_real_ones():
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS, ["public", list(TABLES)])
        real = set(cursor.fetchall())
        cursor.execute("CREATE SCHEMA beside")
        cursor.execute("SET search_path TO beside")
        cursor.execute(KEPT_TABLES)
        cursor.execute("SET search_path TO DEFAULT")
        cursor.execute(COLUMNS, ["beside", list(TABLES)])
        taken = set(cursor.fetchall())
    view = {(name, column) for name, column, *_ in real if name == "gateway_request"}
    assert {one[:2] for one in taken if one[0] == "gateway_request"} == view
    assert {one for one in taken if one[0] != "gateway_request"} == {
        one for one in real if one[0] != "gateway_request"
    }


def test_a_response_is_written_read_walked_and_deleted(ada: Customer):
    first, second = "resp_" + "1" * 32, "resp_" + "2" * 32
    assert put(ada.org.id, first) == [{"id": first}]
    assert put(ada.org.id, first) == []
    put(ada.org.id, second, previous=first)
    assert bytes(run(READ, [first, ada.org.id])[0]["body"]) == b"{}"
    assert run(READ, [first, "org_other"]) == []
    walked = run(TURNS, {"id": second, "org": ada.org.id, "turns": 10, "bytes": 1000})
    assert [row["previous_id"] for row in walked] == ["", first]
    assert run(TURNS, {"id": second, "org": "org_other", "turns": 10, "bytes": 1000}) == []
    assert run(DELETE, [second, "org_other"]) == []
    assert run(DELETE, [second, ada.org.id]) == [{"id": second}]


def test_responses_live_as_long_as_their_organisation_says(ada: Customer):
    assert selectors.DEFAULT_DAYS == DEFAULT_DAYS
    put(ada.org.id, "resp_" + "1" * 32)
    stored = StoredResponse.objects.get()
    assert stored.expires_at - stored.created_at == timedelta(days=DEFAULT_DAYS)
    retention_set(org=ada.org, days=2, actor=ada.actor)
    stored.refresh_from_db()
    assert stored.expires_at - stored.created_at == timedelta(days=2)
    retention_set(org=ada.org, days=0, actor=ada.actor)
    assert put(ada.org.id, "resp_" + "2" * 32) == []
    assert responses_purge() == 1
    assert Retention.objects.get().days == 0


@pytest.mark.parametrize(("batches", "left"), [(1, 3), (20, 0)])
def test_what_is_over_is_deleted_in_bounded_batches(ada: Customer, batches: int, left: int):
    for number in range(5):
        put(ada.org.id, f"resp_{number:032x}")
        IdempotentReply.objects.create(
            digest=bytes([number]) * 32, organisation_id=ada.org.id, fingerprint=b"f" * 32,
            request_id=uuid.uuid4(), leased_until=now(), expires_at=now(),
        )  # fmt: skip
        opinion(ada.org.id, uuid.uuid4(), recent=True)
    StoredResponse.objects.update(expires_at=now())
    Feedback.objects.update(created_at=now() - timedelta(days=2))
    for purge in (responses_purge, replies_purge, feedback_purge):
        assert purge(limit=2, batches=batches) == 5 - left
    kept = [rows.objects.count() for rows in (StoredResponse, IdempotentReply, Feedback)]
    assert kept == [left] * 3


def test_all_responses_of_an_organisation_are_deleted_at_once(ada: Customer):
    bob = make_customer("bob")
    for number, customer in enumerate((ada, ada, bob)):
        put(customer.org.id, f"resp_{number:032x}")
    assert responses_delete(org=ada.org, actor=ada.actor) == 2
    assert [one.organisation_id for one in StoredResponse.objects.all()] == [bob.org.id]


def opinion(org_id: str, request_id: uuid.UUID, *, recent: bool = False) -> list[dict]:
    values = {
        "request": request_id,
        "org": org_id,
        "key": "key_1",
        "score": None,
        "label": "x",
        "recent": recent,
    }
    return run(WRITE, values)


def booked(org_id: str, request_id: uuid.UUID) -> None:
    UsageEvent.objects.create(
        request_id=request_id, organisation_id=org_id, key_id="k", model_id="m", model_name="m", replica_name="r",
        prompt_tokens=1, completion_tokens=1, finish="stop", billable=True, cost_picousd=0, started_at=now(),
        finished_at=now(),
    )  # fmt: skip


def test_an_opinion_belongs_to_the_organisation_of_its_request(ada: Customer):
    known = uuid.uuid4()
    booked(ada.org.id, known)
    assert opinion(ada.org.id, known) == [{"known": True}]
    assert opinion("org_other", known, recent=True) == []
    assert opinion(ada.org.id, uuid.uuid4()) == []
    assert opinion(ada.org.id, uuid.uuid4(), recent=True) == [{"known": False}]
    found = feedback_get(org=ada.org, request_id=known)
    assert found is not None
    assert (found.score, found.label) == (None, "x")


def test_opinions_that_waited_in_vain_are_deleted(ada: Customer):
    known = uuid.uuid4()
    booked(ada.org.id, known)
    opinion(ada.org.id, known)
    opinion(ada.org.id, uuid.uuid4(), recent=True)
    assert feedback_purge() == 0
    Feedback.objects.update(created_at=now() - timedelta(days=2))
    assert feedback_purge() == 1
    assert Feedback.objects.get().request_id == known
