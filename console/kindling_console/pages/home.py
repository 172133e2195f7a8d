"""Home: what to do next, what there is, what it costs. The live part is a fragment that asks again by itself."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_billing.selectors import balance_get
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.quickstart import snippets
from kindling_console.spans import month_start, today_start
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_reports import gpu_time_spent
from kindling_platform.deployments.selectors import deployment_list_visible, model_list_live_first
from kindling_platform.keys.selectors import key_list
from kindling_platform.usage.selectors import (
    adapter_last_used_map,
    error_list_recent,
    first_call_at,
    usage_event_list,
    usage_totals,
)

RECENT = 6


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a new customer does, and whether they did."""

    title: str
    text: str
    url: str
    action: str
    is_done: bool


@page()
def home(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The whole page."""
    models = list(model_list_live_first(org=visitor.org)[:1])
    context = _live(visitor) | {
        "snippets": snippets(models[0].ref, surface=models[0].surface) if models else []
    }
    return show(request, "console/home.html", context)


@page()
def home_live(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The part that changes by itself: checklist, tiles, latest requests."""
    return show(request, "console/parts/home_live.html", _live(visitor) | {"oob": True})


def _live(visitor: Visitor) -> dict[str, object]:
    org = visitor.org
    sees_usage = visitor.may("usage.read")
    context: dict[str, object] = {"steps": _steps(visitor), "sees_usage": sees_usage}
    if visitor.may("billing.read"):
        # The frame's own balance is the same number, read once.
        context["wallet"] = context["balance"] = balance_get(owner_id=org.id).picousd
    if sees_usage:
        context["today"] = usage_totals(org=org, start=today_start(), end=now())
        context["month"] = usage_totals(org=org, start=month_start(), end=now())
        context["gpu_month"] = gpu_time_spent(org=org, start=month_start(), end=now())
        context["recent"] = list(usage_event_list(org=org)[:RECENT])
        context["errors"] = error_list_recent(org=org, limit=3)
    if visitor.may("deployments.read"):
        context["deployments"] = [
            deployment
            for deployment in deployment_list_visible(org=org)
            if deployment.desired_state == "running"
        ]
    steps = [step for step in _as_steps(context["steps"]) if not step.is_done]
    context["next_step"] = steps[0] if steps else None
    context["done_count"] = len(_as_steps(context["steps"])) - len(steps)
    return context


def _as_steps(value: object) -> list[Step]:
    return value if isinstance(value, list) else []


def _steps(visitor: Visitor) -> list[Step]:
    org = visitor.org
    if not visitor.may("keys.write"):
        return []
    adapter_ready = any(adapter.state == "ready" for adapter in adapter_list(org=org)[:50])
    return [
        Step("Create an API key", "Programs show it to call models in your name.",
             reverse("console:keys"), "Create key", key_list(org=org).exists()),
        Step("Make your first call", "With the snippet below, or in the playground.",
             reverse("console:playground"), "Open playground", first_call_at(org=org) is not None),
        Step("Upload an adapter", "Your own LoRA weights, checked before they serve.",
             reverse("console:adapter-upload"), "Upload adapter", adapter_ready),
        Step("Call your adapter", "Same endpoint, your adapter's name as the model.",
             reverse("console:playground"), "Try it", bool(adapter_last_used_map(org=org))),
    ]  # fmt: skip
