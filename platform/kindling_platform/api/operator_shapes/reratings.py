"""What rating anew looks like: its span, what it would change, and how far it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rest_framework import serializers as s

from kindling_billing.models.prices import Rerating
from kindling_platform.accounts.selectors import organisation_id_of, organisation_map
from kindling_platform.api.money import money
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.catalog.selectors import model_id_of, model_name_map
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.rerating_effect import OwnersEffect

MOST_EFFECTS = 50
SUMS = ("requests", "changed", "gaps", "before_picousd", "after_picousd", "difference_picousd")


class RerateSpanShape(StrictShape):
    model = s.CharField(max_length=160, help_text="A reference or an id.")
    organisation = s.CharField(
        required=False, allow_blank=True, max_length=48, default="", help_text="A slug or an id; empty: all."
    )
    start = s.DateTimeField(help_text="Requests that ended from here on.")
    end = s.DateTimeField(help_text="Up to here; not in the future.")


class RerateShape(RerateSpanShape):
    reason = s.CharField(max_length=200, help_text="Customers read it in their ledger.")


class RerateSumShape(s.Serializer[object]):
    requests = s.IntegerField()
    changed = s.IntegerField(help_text="Those that would cost something else.")
    gaps = s.IntegerField(help_text="Those without a price at their time; they stay as they are.")
    before_picousd = s.CharField()
    before_usd = s.CharField()
    after_picousd = s.CharField()
    after_usd = s.CharField()
    difference_picousd = s.CharField()
    difference_usd = s.CharField()


class RerateOwnerShape(RerateSumShape):
    organisation_id = s.CharField()


class RerateEffectShape(s.Serializer[object]):
    organisations = s.IntegerField()
    total = RerateSumShape()
    by_organisation = RerateOwnerShape(
        many=True, help_text=f"The {MOST_EFFECTS} with the largest differences."
    )


class RerateRunShape(s.Serializer[object]):
    id = s.IntegerField()
    model_id = s.CharField()
    model = s.CharField()
    organisation_id = s.CharField(allow_blank=True, help_text="Empty: all.")
    start = s.DateTimeField()
    end = s.DateTimeField()
    reason = s.CharField()
    state = s.CharField(help_text="running or done")
    seen = s.IntegerField(help_text="Requests that it has looked at.")
    changed = s.IntegerField()
    gaps = s.IntegerField()
    difference_picousd = s.CharField()
    difference_usd = s.CharField()
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)
    done_at = s.DateTimeField(allow_null=True)


def span_asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The span of a checked body as rating anew takes it.

    Raises:
        KindlingError: `model_unknown`, `organisation_unknown`.
    """
    sku, owner_id = model_id_of(given["model"]), organisation_id_of(given["organisation"])
    if sku not in model_name_map():
        raise KindlingError("model_unknown", f"There is no model {given['model'][:80]!r}.", param="model")
    if owner_id and not organisation_map(organisation_ids=[owner_id]):
        text = f"There is no organisation {given['organisation']!r}."
        raise KindlingError("organisation_unknown", text, param="organisation")
    return {"sku": sku, "start": given["start"], "end": given["end"], "owner_id": owner_id}


def rerate_effect_row(effects: Sequence[OwnersEffect]) -> dict[str, Any]:
    total = {name: sum(getattr(one, name) for one in effects) for name in SUMS}
    return {
        "organisations": len(effects),
        "total": _sums(total),
        "by_organisation": [
            {"organisation_id": one.owner_id, **_sums(plain_row(one, *SUMS))}
            for one in effects[:MOST_EFFECTS]
        ],
    }


def rerate_run_row(run: Rerating, names: Mapping[str, str]) -> dict[str, Any]:
    told = ("id", "start", "end", "reason", "seen", "changed", "gaps", "created_at", "created_by", "done_at")
    return {
        **plain_row(run, *told),
        "model_id": run.sku,
        "model": names.get(run.sku, run.sku),
        "organisation_id": run.owner_id,
        "state": "done" if run.done_at else "running",
        **money("difference", int(run.difference_picousd)),
    }


def _sums(sums: Mapping[str, int]) -> dict[str, Any]:
    return {
        **{name: sums[name] for name in ("requests", "changed", "gaps")},
        **money("before", sums["before_picousd"]),
        **money("after", sums["after_picousd"]),
        **money("difference", sums["difference_picousd"]),
    }
