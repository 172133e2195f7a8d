"""Deployments that an organisation makes for itself, and bringing back what a deployment was set to."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.forms.deployments import DeploymentForm
from kindling_console.prices import current_hour_prices, hour_text
from kindling_console.sure import sure_recently, sure_with_others
from kindling_platform.catalog.services import model_deployable_set
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.allowances import (
    Allowance,
    allowance_get,
    model_list_deployable,
    replicas_check,
)
from kindling_platform.deployments.credit import credit_check, credit_left_map
from kindling_platform.deployments.machines import machine_get
from kindling_platform.deployments.selectors import deployment_list, deployment_list_visible
from kindling_platform.deployments.services import deployment_create, deployment_restore

SHOWN = 200
MOST_DIGITS = 9
MOST_REPLICA_DIGITS = 3
NOTHING = Allowance(0, 0)


@page("deployments.write", methods=("GET", "POST"))
def deployment_new(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What may be deployed and what it costs; a post makes it. Those who use htmx ask for the cost alone."""
    if visitor.is_operator:
        return redirect(new_url(visitor, NOTHING))
    allowance = allowance_of(visitor)
    models = {model.ref: model for model in model_list_deployable(org=visitor.org)[:SHOWN]}
    prices = current_hour_prices([model.id for model in models.values()], visitor)
    choices = [
        (ref, f"{ref} — {hour_text(prices.get(model.id, 0))} an hour") for ref, model in models.items()
    ]
    initial = _alike(visitor, request.GET.get("like", "")) or {"model": request.GET.get("model", "")}
    form = DeploymentForm(request.POST if request.method == "POST" else None, models=choices, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            made = deployment_create(
                org=visitor.org, model_ref=form.cleaned_data.pop("model"), actor=visitor.actor, **form.cleaned_data
            )  # fmt: skip
            target = reverse("console:deployment", args=[made.id])
            return done(request, target, f"{made.name} is made. It is billed from when it is ready.")
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    chosen = models.get(form["model"].value() or "") or next(iter(models.values()), None)
    context = {
        "form": form,
        "allowance": allowance,
        "models": models,
        "cost": _cost(
            visitor, chosen, _number(request.GET.get("replicas") or form["replicas"].value()), prices
        )
        if chosen
        else None,
    }
    part = "" if form.is_bound else "console/parts/deploy_cost.html"
    return show(
        request, "console/deployment_new.html", context, part=part, status=422 if form.is_bound else 200
    )


@page("deployments.write", methods=("POST",))
def deployment_restored(
    request: HttpRequest, visitor: Visitor, deployment_id: str, number: str
) -> HttpResponse:
    """Set a deployment to what it was in an earlier revision, as a new one."""
    rows = deployment_list() if visitor.is_operator else deployment_list_visible(org=visitor.org)
    found = rows.filter(id=deployment_id).first()
    if found is None:
        raise Http404("There is no such deployment.")
    if not may_change(visitor, found):
        raise PermissionDenied("deployments.write")
    target = reverse("console:deployment", args=[found.id])
    sure_with_others(request, own_id=visitor.org.id, owner_id=found.organisation_id)
    try:
        deployment_restore(
            org=acting_org(visitor), deployment_id=found.id, number=_revision(number), actor=visitor.actor
        )
    except KindlingError as error:
        if error.status == 404:
            raise
        return refused(request, target, error)
    return done(request, target, f"{found.name} is set to what it was in revision {number}.")


@page("operator", methods=("POST",))
def model_deployable(request: HttpRequest, visitor: Visitor, model_id: str) -> HttpResponse:
    """Open a model to deployments of organisations' own, or with `do=close` close it to new ones."""
    is_open = request.POST.get("do") != "close"
    sure_recently(request)
    model = model_deployable_set(model_id=model_id, deployable=is_open, actor=visitor.actor)
    target = reverse("console:model", args=[model.organisation.slug, model.name])
    words = "may deploy it for themselves" if is_open else "may make no new deployments of it"
    return done(request, target, f"Organisations {words}.")


def allowance_of(visitor: Visitor) -> Allowance:
    """What the visitor may have run; nothing for those who deploy nothing, and for the operator, who is not bound."""
    if visitor.is_operator or not visitor.may("deployments.write"):
        return NOTHING
    return allowance_get(org=visitor.org)


def may_change(visitor: Visitor, deployment: Any) -> bool:
    """Whether the visitor may change what a deployment is set to: the operator any, others what they made."""
    is_own = deployment.organisation_id == visitor.org.id and deployment.self_made
    return visitor.is_operator or (is_own and visitor.may("deployments.write"))


def acting_org(visitor: Visitor) -> Any:
    """For which organisation a visitor changes deployments; None: anybody's."""
    return None if visitor.is_operator else visitor.org


def new_url(visitor: Visitor, allowance: Allowance) -> str:
    """Where the visitor makes another deployment; "" for those who may not."""
    if visitor.is_operator:
        return reverse("console:operator-deployments", args=[visitor.org.id])
    return reverse("console:deployment-new") if allowance.replicas else ""


def copy_url(visitor: Visitor, deployment: Any, allowance: Allowance) -> str:
    """Where the visitor makes another one like it; "" for those who may not."""
    if visitor.is_operator:
        address = reverse("console:operator-deployments", args=[deployment.organisation_id])
    elif allowance.replicas and deployment.organisation_id == visitor.org.id and deployment.model.deployable:
        address = reverse("console:deployment-new")
    else:
        return ""
    return f"{address}?like={deployment.id}"


def _cost(visitor: Visitor, model: Any, replicas: int, prices: dict[str, int]) -> dict[str, Any]:
    """What an hour of so many replicas costs and needs, and why they would be refused."""
    refusal = ""
    try:
        replicas_check(org=visitor.org, replicas=replicas)
        credit_check(org=visitor.org, model=model, replicas=replicas)
    except KindlingError as error:
        refusal = error.message
    return {
        "model": model,
        "replicas": replicas,
        "replica_text": hour_text(prices.get(model.id, 0)),
        "hour_text": hour_text(prices.get(model.id, 0), replicas=replicas),
        "left_picousd": credit_left_map(owner_ids=[visitor.org.id])[visitor.org.id],
        "machine": machine_get(),
        "refusal": refusal,
    }


def _revision(text: str) -> int:
    """A revision's number, 0 for what is none: there is no such revision."""
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else 0


def _number(text: Any) -> int:
    digits = str(text)
    asked = int(digits) if digits.isdecimal() and len(digits) < MOST_DIGITS else 1
    return asked if 1 <= asked <= SHOWN else 1


def _alike(visitor: Visitor, deployment_id: str) -> dict[str, Any]:
    """What the form begins with: what one of the organisation's own is, under another name."""
    if not deployment_id or not deployment_id.isprintable():
        return {}
    found = deployment_list(org=visitor.org).filter(id=deployment_id).first()
    if found is None:
        return {}
    return {
        "model": found.model.ref, "name": f"{found.name}-2", "replicas": found.desired_replicas,
        "weights": found.weights, "kv_dtype": found.kv_dtype,
    }  # fmt: skip
