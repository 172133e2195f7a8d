"""Deployments: what runs and why it is as it is; start, stop, change, delete."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from kindling_billing.gpu_hours import HOUR_MS
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.forms.deployments import DeploymentChangeForm
from kindling_console.pages.deploying import acting_org, allowance_of, copy_url, may_change, new_url
from kindling_console.quickstart import snippets
from kindling_console.sure import sure_with_others
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import hour_price_picousd
from kindling_platform.deployments.figures import figures_map
from kindling_platform.deployments.revisions import revision_list
from kindling_platform.deployments.selectors import deployment_list, deployment_list_visible, event_list
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_delete,
    deployment_start,
    deployment_stop,
)

EVENTS = 50
SHOWN = 200
REVISIONS = 20
NO_ROOM = "Stop another deployment, or wait until the operator has more room."
ACTIONS = {"start": deployment_start, "stop": deployment_stop}
REFUSED = "requests are refused with 503, unless another deployment serves the model."
NEXT_STEPS = {
    "pending": "A worker takes it up within seconds.",
    "starting": f"The engine reads the weights. Until it is ready, {REFUSED}",
    "live": "It answers requests.",
    "degraded": "Some replicas answer; the others are being brought back.",
    "stopped": f"Start it to serve again: {REFUSED}",
    "failed": "It will be tried again by itself. The reason says what to mend.",
}


@page("deployments.read")
def deployments(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everything this visitor's requests can reach."""
    found = list(deployment_list_visible(org=visitor.org)[:SHOWN])
    figures = figures_map(org=visitor.org, deployments=found, is_operator=visitor.is_operator)
    allowance = allowance_of(visitor)
    context = {
        "rows": [
            {
                "deployment": one,
                "figures": figures[one.id],
                "may_control": _may_control(visitor, one),
                "copy_url": copy_url(visitor, one, allowance),
            }
            for one in found
        ],
        "new_url": new_url(visitor, allowance),
        "allowance": allowance,
    }
    return show(request, "console/deployments.html", context, part="console/parts/deployment_rows.html")


@page("deployments.read", write="deployments.write", methods=("GET", "POST"))
def deployment_page(request: HttpRequest, visitor: Visitor, deployment_id: str) -> HttpResponse:
    """State, replicas, events and history of one; its live part is asked for by itself. A post changes it."""
    deployment = _visible(visitor, deployment_id)
    current = {
        "replicas": deployment.desired_replicas,
        "weights": deployment.weights,
        "kv_dtype": deployment.kv_dtype,
    }
    form = DeploymentChangeForm(request.POST or None, initial=current)
    if request.method == "POST":
        if not may_change(visitor, deployment):
            raise PermissionDenied("deployments.write")
        sure_with_others(request, own_id=visitor.org.id, owner_id=deployment.organisation_id)
        if form.is_valid() and _changed(deployment, form, visitor):
            target = reverse("console:deployment", args=[deployment.id])
            return done(request, target, f"{deployment.name} is changed.")
    context = {
        "deployment": deployment,
        "events": event_list(deployment=deployment, limit=EVENTS),
        "next_step": _next_step(deployment),
        "may_control": _may_control(visitor, deployment),
        "copy_url": copy_url(visitor, deployment, allowance_of(visitor)),
        "figures": figures_map(org=visitor.org, deployments=[deployment], is_operator=visitor.is_operator)[
            deployment.id
        ],
        "replica_price": _replica_price(deployment),
        "snippets": snippets(_endpoint(visitor, deployment), surface=deployment.model.surface),
        # Where a replica listens and what its process is called is the operator's business.
        "sees_hosts": visitor.is_operator,
        "form": form if may_change(visitor, deployment) else None,
        "history": _history(visitor, deployment),
    }
    part = "" if request.method == "POST" else "console/parts/deployment_live.html"
    return show(request, "console/deployment.html", context, part=part, status=422 if form.is_bound else 200)


@page("deployments.write", methods=("GET", "POST"))
def deployment_action(
    request: HttpRequest, visitor: Visitor, deployment_id: str, action: str
) -> HttpResponse:
    """Start, or ask and then stop."""
    deployment = _visible(visitor, deployment_id)
    if not _may_control(visitor, deployment):
        raise PermissionDenied("deployments.write")
    target = reverse("console:deployment", args=[deployment.id])
    if request.method != "POST":
        if action == "stop":
            return show(request, "console/deployment_stop.html", {"deployment": deployment})
        return redirect(target)
    sure_with_others(request, own_id=visitor.org.id, owner_id=deployment.organisation_id)
    try:
        ACTIONS[action](org=deployment.organisation, deployment_id=deployment.id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    words = {"start": "is asked to start", "stop": "is asked to stop; running requests finish first"}
    return done(request, target, f"{deployment.name} {words[action]}.")


@page("deployments.write", methods=("GET", "POST"))
def deployment_delete_page(request: HttpRequest, visitor: Visitor, deployment_id: str) -> HttpResponse:
    """Delete after the name was typed."""
    deployment = _visible(visitor, deployment_id)
    if not _may_control(visitor, deployment):
        raise PermissionDenied("deployments.write")
    typed = request.POST.get("name", "").strip()
    if request.method == "POST" and typed == deployment.name:
        sure_with_others(request, own_id=visitor.org.id, owner_id=deployment.organisation_id)
        deployment_delete(org=deployment.organisation, deployment_id=deployment.id, actor=visitor.actor)
        text = f"{deployment.name} is deleted; running requests finish first."
        return done(request, reverse("console:deployments"), text)
    context = {
        "deployment": deployment,
        "typed": typed,
        "is_wrong": request.method == "POST",
        "is_operator": visitor.is_operator,
    }
    status = 422 if context["is_wrong"] else 200
    return show(request, "console/deployment_delete.html", context, status=status)


def _changed(deployment: Any, form: DeploymentChangeForm, visitor: Visitor) -> bool:
    """Make it so; an answer of False leaves the reason in the form."""
    try:
        deployment_change(
            org=acting_org(visitor), deployment_id=deployment.id, actor=visitor.actor, **form.cleaned_data
        )
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return False
    return True


def _visible(visitor: Visitor, deployment_id: str) -> Any:
    rows = deployment_list() if visitor.is_operator else deployment_list_visible(org=visitor.org)
    found = rows.filter(id=deployment_id).first()
    if found is None:
        raise Http404("There is no such deployment.")
    return found


def _endpoint(visitor: Visitor, deployment: Any) -> str:
    """How it is called: one of one's own is pinned, so that no other of the model answers instead."""
    is_own = deployment.organisation_id == visitor.org.id and not visitor.org.is_operator
    return f"{deployment.model.ref}#{deployment.name}" if is_own else deployment.model.ref


def _history(visitor: Visitor, deployment: Any) -> Any:
    """Its revisions, for its owners and the operator; None for those who share it."""
    if not visitor.is_operator and deployment.organisation_id != visitor.org.id:
        return None
    return revision_list(deployment=deployment, reader=acting_org(visitor), limit=REVISIONS)


def _next_step(deployment: Any) -> str:
    is_waiting = any(replica.state == "waiting" for replica in deployment.replicas.all())
    return NO_ROOM if is_waiting and deployment.state == "pending" else NEXT_STEPS.get(deployment.state, "")


def _replica_price(deployment: Any) -> int:
    """Pico-dollars for a millisecond of one replica; 0 for the operator's, whose time nobody pays for."""
    org = deployment.organisation
    return 0 if org.is_operator else hour_price_picousd(org=org, model=deployment.model) // HOUR_MS


def _may_control(visitor: Visitor, deployment: Any) -> bool:
    return visitor.is_operator or (
        deployment.organisation_id == visitor.org.id and visitor.may("deployments.write")
    )
