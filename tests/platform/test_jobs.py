"""Wake-ups leave after the commit, in the form a worker reads, and their loss harms nobody."""

import json
from collections.abc import Iterator

import pytest
import redis
from django.db import transaction
from structlog.testing import capture_logs

from kindling_platform.common import jobs
from kindling_platform.config.env import load_env

pytestmark = pytest.mark.django_db(transaction=True)
QUEUE = "celery"


@pytest.fixture
def broker() -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(load_env().redis_url)
    client.delete(QUEUE)
    yield client
    client.delete(QUEUE)
    client.close()


def test_a_job_leaves_after_the_commit_and_not_before(broker: "redis.Redis"):
    with transaction.atomic():
        jobs.enqueue("adapters.validate", adapter_id="adp_1")
        assert broker.llen(QUEUE) == 0
    message = json.loads(broker.lindex(QUEUE, 0))
    assert message["headers"]["task"] == "adapters.validate"
    assert message["content-type"] == "application/json"
    assert "adp_1" in message["headers"]["kwargsrepr"]


def test_a_job_of_a_transaction_that_failed_never_leaves(broker: "redis.Redis"):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.enqueue("adapters.validate", adapter_id="adp_1")
        raise ZeroDivisionError
    assert broker.llen(QUEUE) == 0


def test_a_broker_that_is_away_does_not_fail_the_request(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KINDLING_REDIS_URL", "redis://127.0.0.1:9/0")
    jobs._client.cache_clear()
    try:
        # Django would swallow an error after the commit; the note says that the sender itself dealt with it.
        with capture_logs() as notes, transaction.atomic():
            jobs.enqueue("adapters.validate", adapter_id="adp_1")
    finally:
        jobs._client.cache_clear()
    assert [(note["event"], note["task"]) for note in notes] == [("job.not_sent", "adapters.validate")]
