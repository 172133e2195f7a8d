"""An organisation's own deployments as the operator sees them: what they cost, and a form for another one."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.deployments import DeploymentForm
from kindling_console.spans import month_start
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.catalog.selectors import model_ref_list
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.gpu_reports import gpu_time_spent
from kindling_platform.deployments.selectors import deployment_list
from kindling_platform.deployments.services import deployment_create

SHOWN = 100


@page("operator", methods=("GET", "POST"))
def organisation_deployments(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """What an organisation's machines cost this month; a post makes a deployment that it pays for."""
    org = organisation_get(organisation_id=organisation_id)
    initial = _alike(org, request.GET.get("like", "")) or {"model": request.GET.get("model", "")}
    form = DeploymentForm(
        request.POST or None, models=[(ref, ref) for ref in model_ref_list(org=org)], initial=initial
    )
    if request.method == "POST" and form.is_valid():
        sure_recently(request)
        given = form.cleaned_data
        try:
            made = deployment_create(
                org=visitor.org, model_ref=given["model"], name=given["name"], replicas=given["replicas"],
                weights=given["weights"], kv_dtype=given["kv_dtype"], for_ref=org.id, actor=visitor.actor,
            )  # fmt: skip
            return done(request, reverse("console:deployment", args=[made.id]), f"{made.name} is made.")
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    context = {
        "org": org,
        "form": form,
        "deployments": list(deployment_list(org=org)[:SHOWN]),
        "spent": gpu_time_spent(org=org, start=month_start(), end=now()),
        "accrued": accrued_map(owner_ids=[org.id]).get(org.id, 0),
    }
    return show(request, "console/operator_deployments.html", context, status=422 if form.is_bound else 200)


def _alike(org: Any, deployment_id: str) -> dict[str, Any]:
    """What the form begins with: what one of the organisation's deployments is, under another name."""
    if not deployment_id or not deployment_id.isprintable():
        return {}
    found = deployment_list(org=org).filter(id=deployment_id).first()
    if found is None:
        return {}
    return {
        "model": found.model.ref, "name": f"{found.name}-2", "replicas": found.desired_replicas,
        "weights": found.weights, "kv_dtype": found.kv_dtype,
    }  # fmt: skip
