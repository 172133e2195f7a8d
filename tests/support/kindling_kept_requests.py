"""Requests in the log of prompts and answers, as a gateway writes them."""

import uuid

from django.conf import settings
from django.db import connection

from kindling_people import Customer
from kindling_platform.common.clock import now
from kindling_platform.gateway.request_log.rows import INSERT, Row, insert_values
from kindling_platform.requestlog.seal import Said, Seal
from kindling_platform.requestlog.services import request_log_set

ANSWER = b'{"choices": []}'


def keep_request(customer: Customer, request_id: str, *, prompt: bytes, secret: str = "") -> None:
    """Switch the customer's log on and keep one request, with the gateway's own statement."""
    number = uuid.UUID(request_id)
    said = Said(prompt, ANSWER, "application/json", len(prompt), len(ANSWER))
    request_log_set(org=customer.org, days=7, actor=customer.actor)
    row = Row(
        request_id=number,
        organisation_id=customer.org.id,
        key_id="key_1",
        model_name="kindling/spark",
        route="chat",
        status=200,
        size_bytes=len(prompt) + len(ANSWER),
        sealed=Seal(secret or settings.SECRET_KEY).close(said, org_id=customer.org.id, request_id=number),
        created_at=now(),
    )
    with connection.cursor() as cursor:
        cursor.execute(INSERT, insert_values([row]))
