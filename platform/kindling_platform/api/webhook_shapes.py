"""What webhooks look like in requests and answers of the control API."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.hooks.kinds import DESCRIPTION_CHARS, KINDS
from kindling_platform.hooks.models import Delivery, Endpoint
from kindling_platform.hooks.writing import body_of

EVENTS_HELP = f"The kinds of events that are sent; empty: every one. There are {', '.join(KINDS)}."


class WebhookShape(s.Serializer[object]):
    id = s.CharField()
    url = s.CharField()
    description = s.CharField()
    events = s.ListField(child=s.CharField(), help_text=EVENTS_HELP)
    enabled = s.BooleanField()
    off_reason = s.CharField(help_text="Why the platform has switched it off; empty where a person did.")
    failing_since = s.DateTimeField(
        allow_null=True, help_text="Since when nothing has got there; null: it does."
    )
    old_secret_until = s.DateTimeField(
        allow_null=True, help_text="Until when a rotated secret signs as well."
    )
    created_at = s.DateTimeField()


class WebhookMadeShape(WebhookShape):
    secret = s.CharField(help_text="What signatures are made with (Standard Webhooks).")


class WebhookCreateShape(StrictShape):
    url = s.CharField(max_length=2000, help_text="An https address on the public internet.")
    description = s.CharField(max_length=DESCRIPTION_CHARS, required=False, allow_blank=True, default="")
    events = s.ListField(
        child=s.CharField(max_length=40), required=False, default=list, max_length=100, help_text=EVENTS_HELP
    )
    enabled = s.BooleanField(required=False, default=True)


class WebhookChangeShape(StrictShape):
    told = ("id", "off_reason", "failing_since", "old_secret_until", "created_at")
    url = s.CharField(max_length=2000, required=False)
    description = s.CharField(max_length=DESCRIPTION_CHARS, required=False, allow_blank=True)
    events = s.ListField(
        child=s.CharField(max_length=40), required=False, max_length=100, help_text=EVENTS_HELP
    )
    enabled = s.BooleanField(required=False)


class DeliveryShape(s.Serializer[object]):
    id = s.CharField()
    event_id = s.CharField(help_text="Goes as `webhook-id` with every attempt.")
    event_type = s.CharField()
    state = s.CharField(help_text="waiting, delivered, or failed: given up.")
    attempts = s.IntegerField()
    due_at = s.DateTimeField(allow_null=True, help_text="When the next attempt is made; null: none is.")
    attempted_at = s.DateTimeField(allow_null=True)
    took_ms = s.IntegerField(allow_null=True)
    status_code = s.IntegerField(allow_null=True)
    error = s.CharField(help_text="Why the last attempt got no answer.")
    created_at = s.DateTimeField()


class OneDeliveryShape(DeliveryShape):
    body = s.CharField(help_text="What is sent, to the byte.")
    answer = s.CharField(help_text="The first kilobyte of the last answer.")


def webhook_row(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint, without its secret."""
    names = (
        "id", "url", "description", "events", "enabled", "off_reason", "failing_since", "old_secret_until",
        "created_at",
    )  # fmt: skip
    return plain_row(endpoint, *names)


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    """A delivery in a list."""
    names = (
        "id",
        "event_id",
        "state",
        "attempts",
        "attempted_at",
        "took_ms",
        "status_code",
        "error",
        "created_at",
    )
    waits = delivery.state == Delivery.State.WAITING
    return {
        **plain_row(delivery, *names),
        "event_type": delivery.event.type,
        "due_at": delivery.due_at if waits else None,
    }


def one_delivery_row(delivery: Delivery) -> dict[str, Any]:
    """A delivery with what was sent and answered."""
    return {**delivery_row(delivery), "body": body_of(delivery.event).decode(), "answer": delivery.answer}
