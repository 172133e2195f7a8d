"""Reads the models that an organisation may use, with all that they are chosen by; as many queries for any number."""

from collections.abc import Sequence

from django.db.models import F, Q

from kindling_billing.selectors import price_map_current
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.offers import Offer
from kindling_platform.catalog.selectors import model_get, model_list
from kindling_platform.catalog.speeds import NO_SPEEDS, speeds_map
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.deployments.selectors import deployment_list


def offer_list(*, org: Organisation) -> list[Offer]:
    """Every model that an organisation may use."""
    return _offers(org, list(model_list(org=org)))


def offer_get(*, org: Organisation, ref: str) -> Offer:
    """One of them, by reference or id.

    Raises:
        KindlingError: `model_not_found`.
    """
    return _offers(org, [model_get(org=org, ref=ref)])[0]


def serving_list(*, org: Organisation, model: Model) -> list[Deployment]:
    """The deployments of a model that serve an organisation: its own and those of the model's owner."""
    rows = deployment_list().filter(model_id=model.id)
    return list(rows.filter(organisation_id__in={org.id, model.organisation_id}))


def _offers(org: Organisation, models: Sequence[Model]) -> list[Offer]:
    ids = [model.id for model in models]
    prices = price_map_current(skus=ids, owner_id=org.id)
    speeds, warm = speeds_map(org=org, model_ids=ids), _warm(org, ids)
    return [
        Offer(model, prices.get(model.id), speeds.get(model.id, NO_SPEEDS), model.id in warm)
        for model in models
    ]


def _warm(org: Organisation, model_ids: Sequence[str]) -> set[str]:
    """The models whose next request from this organisation finds a replica that is ready.

    As the gateway chooses: one of a running deployment in its present generation, the organisation's own or that of
    the model's owner; what others run for themselves does not serve it.
    """
    serving = Q(deployment__organisation_id=org.id) | Q(
        deployment__organisation_id=F("deployment__model__organisation_id")
    )
    ready = Replica.objects.filter(
        serving,
        deployment__model_id__in=list(model_ids),
        deployment__desired_state="running",
        generation=F("deployment__generation"),
        state="ready",
    ).exclude(url="")
    return set(ready.values_list("deployment__model_id", flat=True).distinct())
