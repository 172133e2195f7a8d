"""What records that wait for the operator look like."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.records.kinds import Kind
from kindling_platform.records.remedies import remedy_of

REASONS = ("reason", "trouble")


class RecordKindShape(s.Serializer[object]):
    kind = s.CharField()
    label = s.CharField()  # type: ignore[assignment]  # DRF takes fields out of the class
    waiting = s.IntegerField()
    actions = s.ListField(child=s.CharField(), help_text="What may be done about such a record.")


class RecordKindsShape(s.Serializer[object]):
    data = RecordKindShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class RecordShape(s.Serializer[object]):
    id = s.CharField()
    since = s.DateTimeField()
    organisation_id = s.CharField(allow_blank=True, help_text="Empty where the record names none.")
    reason = s.CharField(allow_blank=True)
    what_to_do = s.CharField()
    details = s.DictField(help_text="What else is known, by the kind of record.")


class RecordActShape(StrictShape):
    note = s.CharField(
        required=False, allow_blank=True, max_length=300, default="",
        help_text="Needed where nobody is billed or something is closed by hand; the audit log keeps it.",
    )  # fmt: skip


class RecordDoneShape(s.Serializer[object]):
    kind = s.CharField()
    id = s.CharField()
    action = s.CharField()
    done = s.CharField(help_text="A sentence that says what was done.")


def record_kind_row(kind: Kind, waiting: int) -> dict[str, Any]:
    return {"kind": kind.key, "label": kind.label, "waiting": waiting, "actions": list(kind.actions)}


def record_row(kind: Kind, row: Any) -> dict[str, Any]:
    known = plain_row(row, *kind.told)
    reason = next((known.pop(name) for name in REASONS if name in known), "")
    return {
        "id": kind.id_of(row),
        "since": kind.since_of(row),
        "organisation_id": kind.owner_of(row),
        "reason": reason,
        "what_to_do": remedy_of(kind.key, row),
        "details": {
            name: value for name, value in known.items() if name not in ("organisation_id", "owner_id")
        },
    }
