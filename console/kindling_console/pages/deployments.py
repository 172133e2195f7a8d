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
from kindling_console.quickstart import snippets
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import hour_price_picousd
from kindling_platform.deployments.selectors import deployment_list, deployment_list_visible, event_list
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_delete,
    deployment_start,
    deployment_stop,
)

EVENTS = 50
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
    rows = list(deployment_list_visible(org=visitor.org)[:200])
    context = {"deployments": rows}
    return show(request, "console/deployments.html", context, part="console/parts/deployment_rows.html")


@page("deployments.read", write="deployments.write", methods=("GET", "POST"))
def deployment_page(request: HttpRequest, visitor: Visitor, deployment_id: str) -> HttpResponse:
    """State, replicas and events of one; its live part is asked for by itself. The operator's post changes it."""
    deployment = _visible(visitor, deployment_id)
    current = {"replicas": deployment.desired_replicas, "weights": deployment.weights}
    form = DeploymentChangeForm(request.POST or None, initial=current)
    if request.method == "POST":
        if not visitor.is_operator:
            raise PermissionDenied("deployments.write")
        if form.is_valid() and _changed(deployment, form, visitor):
            target = reverse("console:deployment", args=[deployment.id])
            return done(request, target, f"{deployment.name} is changed.")
    context = {
        "deployment": deployment,
        "events": event_list(deployment=deployment, limit=EVENTS),
        "next_step": NEXT_STEPS.get(deployment.state, ""),
        "may_control": _may_control(visitor, deployment),
        "replica_price": _replica_price(deployment),
        "snippets": snippets(deployment.model.ref, surface=deployment.model.surface),
        # Where a replica listens and what its process is called is the operator's business.
        "sees_hosts": visitor.is_operator,
        "form": form if visitor.is_operator else None,
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
        deployment_change(org=None, deployment_id=deployment.id, actor=visitor.actor, **form.cleaned_data)
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


def _replica_price(deployment: Any) -> int:
    """Pico-dollars for a millisecond of one replica; 0 for the operator's, whose time nobody pays for."""
    org = deployment.organisation
    return 0 if org.is_operator else hour_price_picousd(org=org, model=deployment.model) // HOUR_MS


def _may_control(visitor: Visitor, deployment: Any) -> bool:
    return visitor.is_operator or (
        deployment.organisation_id == visitor.org.id and visitor.may("deployments.write")
    )
