"""The playground: talk to a model or an adapter; every answer is a billed request like any other."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from kindling_billing.pooled import connection_lend
from kindling_billing.selectors import balance_get
from kindling_console.access import Visitor, page, visitor_of
from kindling_console.answers import private, show
from kindling_console.forms.playground import ChatForm, RawForm
from kindling_console.inference import Ask, Upstream, ask_open, chat_ask, completion_ask
from kindling_console.page_org import page_org_changed
from kindling_console.playground_choices import CHAT, RAW, choice_pick, choices_get
from kindling_console.playground_keys import playground_key, playground_key_forget
from kindling_console.playground_shares import copy_get, lanes_told, numbers_of, numbers_told, shared_fields
from kindling_console.quickstart import base_url, snippet_templates
from kindling_console.second_factor import REFUSAL
from kindling_console.templatetags.kindling import usd
from kindling_console.ways_back import method_refused
from kindling_platform.accounts.second_factors import FACTOR_MISSING
from kindling_platform.common.error_index.entries import error_url
from kindling_platform.responses.conversations import MOST_BYTES
from kindling_platform.responses.selectors import keeping_days
from kindling_platform.responses.sharing import TITLE_CHARS
from kindling_platform.usage.selectors import usage_event_get

MAX_BODY_BYTES = 1024 * 1024
UNREACHABLE = "The gateway does not answer. Try again in a moment."


@page("playground.use", methods=("GET", "POST"))
def playground(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The page in one of its modes; without scripts a post of its form answers once, in whole."""
    choices = choices_get(visitor)
    is_form = request.method == "POST"
    shared = None if is_form else copy_get(visitor, request.GET.get("shared", ""))
    given: Mapping[str, Any] = request.POST if is_form else request.GET
    if shared:
        given = shared_fields(shared) | request.GET.dict()
    picked = choice_pick(
        choices,
        model=given.get("model", ""),
        compare=request.GET.getlist("compare"),
        mode=given.get("mode", ""),
        is_form=is_form,
    )
    kind = RawForm if picked.mode == RAW else ChatForm
    form = kind(given or None, refs=[choice["ref"] for choice in choices.of(picked.mode)])
    surface = "completions" if picked.mode == RAW else "chat"
    context: dict[str, Any] = {
        "form": form,
        "choices": choices.texts,
        "rivals": choices.of(picked.mode),
        "picked": picked,
        "chosen": picked.chosen,
        # A message to a model that turned out to take none stands there as a prompt.
        "prompt": request.POST.get("prompt") or request.POST.get("message", ""),
        "can_chat": bool(choices.known(picked.chosen, mode=CHAT)) or not picked.chosen,
        "templates": [{"id": s.id, "label": s.label, "text": s.text} for s in snippet_templates(surface)],
        "base_url": base_url(),
        "share_days": keeping_days(org=visitor.org),
        "share_most_bytes": MOST_BYTES,
        "share_title_chars": TITLE_CHARS,
    }
    if shared and shared.conversation.mode == picked.mode:
        context["copied"] = lanes_told(shared.conversation)
    status = 200
    if is_form:
        status = 422
        if form.is_valid():
            ask = completion_ask if picked.mode == RAW else chat_ask
            context |= async_to_sync(_answer_whole)(visitor, ask(form.ask_fields(), stream=False))
            status = context["status"]
    shown = show(request, "console/playground.html", context, status=status)
    # What was said in it, here or by a colleague, is for no cache.
    return private(shown) if is_form or shared else shown


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
    if visitor.is_barred:
        return _refusal(403, FACTOR_MISSING, REFUSAL)
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
    balance = balance_get(owner_id=visitor.org.id).picousd if visitor.may("billing.read") else None
    row = numbers_told(numbers_of(event), str(event.request_id))
    return JsonResponse(row | {"balance": usd(balance) if balance is not None else None})


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
