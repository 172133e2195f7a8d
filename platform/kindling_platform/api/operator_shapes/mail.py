"""What letters of the outbox look like to the operator's programs."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import plain_row
from kindling_platform.records.letters import KEPT, Letter


class LetterShape(s.Serializer[object]):
    id = s.CharField()
    state = s.CharField(
        help_text="waiting for the mail server, refused by it, sent, or kept where no mail server is set."
    )
    kind = s.CharField(allow_blank=True, help_text="What it tells of, such as invoice.due.")
    organisation_id = s.CharField(allow_blank=True)
    to = s.ListField(child=s.CharField())
    subject = s.CharField()
    trouble = s.CharField(allow_blank=True, help_text="Who did not take it, and what the mail server said.")
    written_at = s.DateTimeField()
    ended_at = s.DateTimeField(allow_null=True, help_text="When it was sent or refused.")


class OneLetterShape(LetterShape):
    body = s.CharField(
        allow_null=True,
        help_text="As it would be written now; null for one that is kept, which may hold a link to sign in with.",
    )


class OutboxShape(s.Serializer[object]):
    is_kept = s.BooleanField(help_text="Whether letters are kept because no mail server is set.")
    data = LetterShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


def letter_row(letter: Letter) -> dict[str, Any]:
    names = ("id", "state", "kind", "organisation_id", "to", "subject", "trouble", "written_at", "ended_at")
    return plain_row(letter, *names)


def one_letter_row(letter: Letter) -> dict[str, Any]:
    return {**letter_row(letter), "body": None if letter.state == KEPT else letter.body}
