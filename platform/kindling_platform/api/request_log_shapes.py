"""What kept requests look like over the API."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.strict import StrictShape
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.requestlog.seal import Said
from kindling_platform.requestlog.services import MAX_DAYS


class RequestLogShape(s.Serializer[object]):
    days = s.IntegerField(help_text="For how many days prompts and answers are kept; 0 keeps none.")
    kept = s.IntegerField()


class RequestLogChangeShape(StrictShape):
    told = ("kept",)
    days = s.IntegerField(
        min_value=0, max_value=MAX_DAYS, help_text="0 switches the log off and deletes what it has kept."
    )


class LoggedRequestShape(s.Serializer[object]):
    request_id = s.CharField()
    key_id = s.CharField()
    model = s.CharField()
    route = s.CharField()
    status = s.IntegerField()
    size_bytes = s.IntegerField(help_text="Of what the request and its answer said.")
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField()


class OpenedRequestShape(LoggedRequestShape):
    prompt = s.CharField(help_text="The body as it was sent, as far as it was kept.")
    answer = s.CharField()
    answer_type = s.CharField(help_text="The answer's content type.")
    is_cut = s.BooleanField(help_text="Whether there was more of either than is kept.")


def logged_request_row(entry: LoggedRequest) -> dict[str, Any]:
    """A kept request without what it said."""
    return {
        "request_id": str(entry.request_id),
        "key_id": entry.key_id,
        "model": entry.model_name,
        "route": entry.route,
        "status": entry.status,
        "size_bytes": entry.size_bytes,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at,
    }


def opened_request_row(entry: LoggedRequest, said: Said) -> dict[str, Any]:
    """A kept request with what it said; bytes that are no text are shown as U+FFFD."""
    return {
        **logged_request_row(entry),
        "prompt": said.prompt.decode("utf-8", "replace"),
        "answer": said.answer.decode("utf-8", "replace"),
        "answer_type": said.answer_type,
        "is_cut": said.is_cut,
    }
