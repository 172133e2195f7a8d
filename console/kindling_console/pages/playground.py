"""The playground: talk to a model or an adapter; every answer is a billed request like any other."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.money import pico_to_usd_text
from kindling_billing.pooled import connection_lend
from kindling_billing.selectors import balance_get
from kindling_console.access import Visitor, page, visitor_of
from kindling_console.answers import show
from kindling_console.forms.playground import ChatForm, RawForm
from kindling_console.inference import Ask, Upstream, ask_open, chat_ask, completion_ask
from kindling_console.page_org import page_org_changed
from kindling_console.playground_choices import CHAT, RAW, choice_pick, choices_get
from kindling_console.playground_keys import playground_key, playground_key_forget
from kindling_console.quickstart import base_url, snippet_templates
from kindling_console.templatetags.kindling import usd, usd_cost
from kindling_console.ways_back import method_refused
from kindling_platform.common.error_index.entries import error_url
from kindling_platform.usage.selectors import usage_event_get

MAX_BODY_BYTES = 1024 * 1024
UNREACHABLE = "The gateway does not answer. Try again in a moment."


@page("playground.use", methods=("GET", "POST"))
def playground(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The page in one of its modes; without scripts a post of its form answers once, in whole."""
    choices = choices_get(visitor)
    is_form = request.method == "POST"
    given = request.POST if is_form else request.GET
    picked = choice_pick(
        choices,
        model=given.get("model", ""),
        compare=request.GET.get("compare", ""),
        mode=given.get("mode", ""),
        is_form=is_form,
    )
    kind = RawForm if picked.mode == RAW else ChatForm
    form = kind(given or None, refs=[choice["ref"] for choice in choices.of(picked.mode)])
    surface = "completions" if picked.mode == RAW else "chat"
    context: dict[str, Any] = {
        "form": form,
        "choices": choices.texts,
        "chats": choices.chats,
        "picked": picked,
        "chosen": picked.chosen,
        # A message to a model that turned out to take none stands there as a prompt.
        "prompt": request.POST.get("prompt") or request.POST.get("message", ""),
        "can_chat": bool(choices.known(picked.chosen, mode=CHAT)) or not picked.chosen,
        "templates": [{"id": s.id, "label": s.label, "text": s.text} for s in snippet_templates(surface)],
        "base_url": base_url(),
    }
    status = 200
    if is_form:
        status = 422
        if form.is_valid():
            ask = completion_ask if picked.mode == RAW else chat_ask
            context |= async_to_sync(_answer_whole)(visitor, ask(form.ask_fields(), stream=False))
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
    ask = completion_ask if "prompt" in fields else chat_ask
    try:
        upstream = await _open(visitor, ask(fields, stream=True))
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


async def _open(visitor: Visitor, ask: Ask) -> Upstream:
    upstream = await ask_open(ask, key=await sync_to_async(_key)(visitor))
    if upstream.status == 401:
        # The kept key was revoked or has just expired: once more with a new one.
        await upstream.close()
        playground_key_forget(visitor)
        upstream = await ask_open(ask, key=await sync_to_async(_key)(visitor))
    return upstream


def _key(visitor: Visitor) -> str:
    key = playground_key(visitor)
    connection_lend()  # an answer may take minutes
    return key


async def _relay(upstream: Upstream) -> AsyncIterator[bytes]:
    async for piece in upstream.chunks():
        yield piece


async def _answer_whole(visitor: Visitor, ask: Ask) -> dict[str, Any]:
    try:
        upstream = await _open(visitor, ask)
        status, request_id, body = upstream.status, upstream.request_id, json.loads(await upstream.body())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {"status": 502, "failure": {"message": UNREACHABLE}}
    if status != 200:
        return {"status": status, "failure": {"message": UNREACHABLE} | body.get("error", {})}
    choice = body["choices"][0]
    said = choice.get("message", {})
    return {
        "status": 200,
        "answer": choice["text"] if "text" in choice else said["content"] or "",
        "answer_thought": said.get("reasoning_content", ""),
        "answer_usage": body.get("usage", {}),
        "answer_request_id": request_id,
    }


def _refusal(status: int, code: str, message: str) -> JsonResponse:
    error = {"message": message, "type": "console_error", "param": None, "code": code}
    if url := error_url(settings.KINDLING_ENV.public_url, code):
        error["doc_url"] = url
    return JsonResponse({"error": error}, status=status)
