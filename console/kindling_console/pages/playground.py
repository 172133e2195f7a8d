"""The playground: talk to a model or an adapter; every answer is a billed request like any other."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.money import pico_to_usd_text
from kindling_billing.pooled import connection_lend
from kindling_billing.selectors import balance_get
from kindling_console.access import Visitor, page, visitor_of
from kindling_console.answers import show
from kindling_console.forms.playground import PlaygroundForm
from kindling_console.inference import Upstream, chat_body, chat_open
from kindling_console.page_org import page_org_changed
from kindling_console.playground_keys import playground_key, playground_key_forget
from kindling_console.prices import current_prices
from kindling_console.quickstart import base_url, snippet_templates
from kindling_console.templatetags.kindling import usd, usd_cost
from kindling_console.ways_back import method_refused
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.deployments.selectors import model_list_running
from kindling_platform.usage.selectors import usage_event_get

MAX_BODY_BYTES = 1024 * 1024
UNREACHABLE = "The gateway does not answer. Try again in a moment."


@page("playground.use", methods=("GET", "POST"))
def playground(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The page; without scripts a post of its form answers once, in whole."""
    choices = _choices(visitor)
    form = PlaygroundForm(request.POST or request.GET or None, refs=[choice["ref"] for choice in choices])
    asked = request.POST.get("model", "") if request.method == "POST" else request.GET.get("model", "")
    compared = request.GET.get("compare", "")
    first = choices[0]["ref"] if choices and request.method != "POST" else ""
    context: dict[str, Any] = {
        "form": form,
        "choices": choices,
        # Another model in the place of one that is gone would answer, and be paid for, unasked.
        "chosen": _known(asked, choices) if asked else first,
        "compared": _known(compared, choices),
        "unknown": [ref for ref in dict.fromkeys((asked, compared)) if ref and not _known(ref, choices)],
        "templates": [{"id": s.id, "label": s.label, "text": s.text} for s in snippet_templates()],
        "base_url": base_url(),
    }
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            context |= async_to_sync(_answer_whole)(visitor, form.chat_fields())
            status = context["status"]
    return show(request, "console/playground.html", context, status=status)


async def run(request: HttpRequest) -> HttpResponseBase:
    """Stream an answer: the gateway's own status, headers that matter and bytes, relayed as they come."""
    if request.method != "POST":
        return await sync_to_async(method_refused)(request, {"POST"})
    visitor = await sync_to_async(visitor_of)(request)
    if visitor is None:
        return _refusal(401, "signed_out", "You are signed out; nothing was sent.")
    changed = await sync_to_async(page_org_changed)(request, org=visitor.org, others=visitor.others)
    if changed:
        # Nobody changes back to what they were removed from.
        code = "organisation_changed" if changed.shown else "organisation_left"
        return _refusal(409, code, changed.message)
    if not visitor.may("playground.use"):
        return _refusal(403, "role", "Your role does not allow the playground.")
    if len(request.body) > MAX_BODY_BYTES:
        return _refusal(
            413, "request_too_large", "The conversation is too long for the playground; clear it."
        )
    try:
        fields = json.loads(request.body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return _refusal(400, "invalid_json", "The page sent something unreadable. Reload it.")
    try:
        upstream = await _open(visitor, chat_body(fields, stream=True))
    except (aiohttp.ClientError, TimeoutError):
        return _refusal(502, "gateway_unreachable", UNREACHABLE)
    response: HttpResponseBase
    if upstream.status == 200:
        response = StreamingHttpResponse(_relay(upstream), content_type=upstream.content_type)
        response["X-Accel-Buffering"] = "no"
    else:
        response = HttpResponse(
            await upstream.body(), status=upstream.status, content_type=upstream.content_type
        )
    response["Cache-Control"] = "no-store"
    response["X-Kindling-Request"] = upstream.request_id
    return response


@page("usage.read")
def receipt(request: HttpRequest, visitor: Visitor, request_id: str) -> HttpResponse:
    """What a request cost, once it is in the ledger; 404 until then."""
    event = usage_event_get(org=visitor.org, request_id=request_id)
    first = (event.first_token_at - event.started_at).total_seconds() if event.first_token_at else None
    made = event.completion_tokens
    writing = (event.finished_at - event.first_token_at).total_seconds() if event.first_token_at else 0
    balance = balance_get(owner_id=visitor.org.id).picousd if visitor.may("billing.read") else None
    return JsonResponse(
        {
            "cost": usd_cost(event.cost_picousd),
            "cost_exact_usd": pico_to_usd_text(int(event.cost_picousd), 12),
            "prompt_tokens": event.prompt_tokens,
            "cached_tokens": event.cached_tokens,
            "completion_tokens": made,
            "first_token_ms": round(first * 1000) if first is not None else None,
            "tokens_per_s": round((made - 1) / writing, 1) if made > 1 and writing > 0 else None,
            "finish": event.finish,
            "url": reverse("console:request", args=[event.request_id]),
            "balance": usd(balance) if balance is not None else None,
        }
    )


async def _open(visitor: Visitor, body: dict[str, Any]) -> Upstream:
    upstream = await chat_open(body, key=await sync_to_async(_key)(visitor))
    if upstream.status == 401:
        # The kept key was revoked or has just expired: once more with a new one.
        await upstream.close()
        playground_key_forget(visitor)
        upstream = await chat_open(body, key=await sync_to_async(_key)(visitor))
    return upstream


def _key(visitor: Visitor) -> str:
    key = playground_key(visitor)
    connection_lend()  # an answer may take minutes
    return key


async def _relay(upstream: Upstream) -> AsyncIterator[bytes]:
    async for piece in upstream.chunks():
        yield piece


async def _answer_whole(visitor: Visitor, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        upstream = await _open(visitor, chat_body(fields, stream=False))
        status, request_id, body = upstream.status, upstream.request_id, json.loads(await upstream.body())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {"status": 502, "failure": UNREACHABLE}
    if status != 200:
        return {"status": status, "failure": body.get("error", {}).get("message", UNREACHABLE)}
    said = body["choices"][0]["message"]
    return {
        "status": 200,
        "answer": said["content"] or "",
        "answer_thought": said.get("reasoning_content", ""),
        "answer_usage": body.get("usage", {}),
        "answer_request_id": request_id,
    }


def _choices(visitor: Visitor) -> list[dict[str, Any]]:
    models = [model for model in model_list_running(org=visitor.org) if model.surface == "chat"]
    prices = current_prices((model.id for model in models), visitor)
    by_id = {
        model.id: {"ref": model.ref, "base": "", "context": model.context_length}
        | _price(prices.get(model.id))
        for model in models
    }
    adapters = [
        by_id[adapter.base_id] | {"ref": adapter.ref, "base": adapter.base.ref}
        for adapter in adapter_list(org=visitor.org)[:200]
        if adapter.state == "ready" and adapter.base_id in by_id
    ]
    return [*by_id.values(), *adapters]


def _price(price: Any) -> dict[str, Any]:
    if price is None:
        return {"input": None, "output": None}
    return {"input": price.input_picousd, "output": price.output_picousd}


def _known(ref: str, choices: list[dict[str, Any]]) -> str:
    return ref if any(choice["ref"] == ref for choice in choices) else ""


def _refusal(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse(
        {"error": {"message": message, "type": "console_error", "param": None, "code": code}}, status=status
    )
