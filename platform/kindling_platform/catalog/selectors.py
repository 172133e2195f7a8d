"""Reads the catalog."""

from typing import Any

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat

from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.matching import best_first
from kindling_platform.common.models import OrgQuerySet


def model_list(*, org: Organisation) -> OrgQuerySet:
    """The models an organisation may use: public ones and its own, by reference."""
    rows = Model.objects.filter(Q(is_public=True) | Q(organisation=org)).select_related("organisation")
    return rows.order_by("organisation__slug", "name")


def model_list_named(*, org: Organisation, query: str) -> QuerySet[Any]:
    """Those of them that are called like `query`, the best first."""
    rows = model_list(org=org).annotate(full_name=Concat("organisation__slug", Value("/"), "name"))
    return best_first(rows, query, fields=("name", "display_name", "full_name"))


def model_ref_list(*, org: Organisation) -> list[str]:
    """What clients call the models that an organisation may use."""
    rows = model_list(org=org).values_list("organisation__slug", "name")
    return [f"{slug}/{name}" for slug, name in rows]


def model_list_public() -> OrgQuerySet:
    """The models that everybody may use, also before signing in."""
    return model_list_all().filter(is_public=True)


def stand_in_list(*, org: Organisation | None) -> OrgQuerySet:
    """The stand-ins among the models that an organisation may use, or everybody, as far as a deployment of them is to
    run.
    """
    rows = model_list_public() if org is None else model_list(org=org)
    return rows.filter(is_stand_in=True, deployments__desired_state="running").distinct()


def model_list_all() -> OrgQuerySet:
    """Every model of every organisation; for the operator."""
    return Model.objects.select_related("organisation").order_by("organisation__slug", "name")


def model_get(*, org: Organisation, ref: str) -> Model:
    """A model by `organisation/name`, by its name alone when it is the organisation's own, or by id.

    Raises:
        KindlingError: `model_not_found`.
    """
    slug, _, name = ref.rpartition("/")
    named = Q(organisation__slug=slug or org.slug, name=name)
    visible = Q(is_public=True) | Q(organisation=org)
    row: Model | None = (
        Model.objects.filter(visible, named | Q(id=ref)).select_related("organisation").first()
    )
    if row is None:
        text = f"There is no model {ref[:100]!r}, or it is not yours to use."
        raise KindlingError("model_not_found", text, 404, param="model")
    return row


def model_name_map() -> dict[str, str]:
    """References of all models by id."""
    return {row.id: row.ref for row in Model.objects.select_related("organisation")}


def model_id_of(ref: str) -> str:
    """The id of a model that is named by reference or id; what is neither comes back as it is, and finds nothing."""
    return {name: sku for sku, name in model_name_map().items()}.get(ref, ref)
