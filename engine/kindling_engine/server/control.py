"""The routes for gateway, agent and workers: grants, adapters, usage, health."""

import asyncio
import contextlib
import re
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from kindling_engine.protocol.adapter_report import ENGINE_FAILED, FETCH_FAILED, SAVE_AGAIN, UNSEEN
from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.ipc import AdapterLoaded
from kindling_engine.protocol.usage_log import read_usage
from kindling_engine.server.errors import ApiError, invalid_value
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.json_body import json_object_parse
from kindling_engine.server.keys import FRONT
from kindling_engine.server.metrics import CONTENT_TYPE

MAX_GRANT_TOKENS = 1 << 31
MAX_USAGE_RECORDS = 5000
DEFAULT_USAGE_RECORDS = 500
LOAD_TIMEOUT_S = 120.0
METRICS_WAIT_S = 2.0
GRANT_WAIT_S = 10.0
ENGINE_CHECKS = ("values", "smoke", UNSEEN)
_FIXES = {
    "files": "Upload both files of the adapter as PEFT saves them.",
    "values": "Find the training step that diverged and upload a checkpoint from before it.",
    "smoke": "Train again with a lower learning rate or alpha.",
    "size": "Train with a lower rank or fewer targets.",
    "safetensors_header": SAVE_AGAIN,
    "config_json": SAVE_AGAIN,
    "rank": SAVE_AGAIN,
    "tensor_shapes": "Choose the base model that the adapter was trained on.",
}
_HASH = re.compile(r"[0-9a-f]{64}")


async def post_grant(request: web.Request) -> web.Response:
    """Raise the total of tokens a running request may make; a lower total changes nothing."""
    fields = Fields(json_object_parse(await request.read()))
    tokens = fields.integer("tokens", low=1, high=MAX_GRANT_TOKENS)
    if tokens is None:
        raise ApiError(400, "missing_field", "tokens is required.", param="tokens")
    fields.end()
    generation = request.app[FRONT].get(request.match_info["id"])
    return _json({"tokens": generation.extend(tokens)})


async def get_grant(request: web.Request) -> web.Response:
    """Wait until a request that is not streamed nears the end of its grant; `short` is false where it did not in time.

    Streams say the same in comments. Errors: `unknown_request` for one that has ended, also while this waits.
    """
    generation, short = request.app[FRONT].get(request.match_info["id"]), False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRANT_WAIT_S):
            short = await generation.wait_short()
    if generation.ended:
        raise ApiError(404, "unknown_request", "No request with this id is running here.")
    return _json({"tokens": generation.completion_tokens, "short": short})


async def post_stop(request: web.Request) -> web.Response:
    """End a running request where it is, as if its length were reached; stopping twice changes nothing."""
    generation = request.app[FRONT].get(request.match_info["id"])
    return _json({"tokens": generation.stop()})


async def get_usage(request: web.Request) -> web.Response:
    """Usage records behind an offset."""
    after = _query_integer(request, "after", default=0, high=1 << 62)
    limit = _query_integer(request, "limit", default=DEFAULT_USAGE_RECORDS, high=MAX_USAGE_RECORDS)
    log_id, records, following = await asyncio.to_thread(
        read_usage, request.app[FRONT].book.path, after, limit
    )
    return _json({"log": log_id, "records": records, "next": following})


async def post_lora_prefetch(request: web.Request) -> web.Response:
    """Load an adapter before it is needed."""
    loaded = await _load(request, check=False)
    if not loaded.ok:
        raise ApiError(412, "adapter_load_failed", loaded.reason or "The adapter could not be loaded.")
    return _json({"ok": True})


async def post_lora_check(request: web.Request) -> web.Response:
    """Load an adapter, look at its values, and generate with it; a refusal is an answer, not an error."""
    loaded = await _load(request, check=True)
    if loaded.code == FETCH_FAILED:
        # It says nothing of the adapter.
        raise ApiError(503, "overloaded", loaded.reason, retry_after_s=5)
    if loaded.code == ENGINE_FAILED:
        raise ApiError(500, "internal_error", loaded.reason)
    text = request.app[FRONT].text.decode(loaded.smoke_ids)
    return _json({"ok": loaded.ok, "findings": engine_findings(loaded.findings), "smoke_text": text})


def engine_findings(findings: list[Finding]) -> list[Finding]:
    """What only an engine can find, and every failure with something to do about it.

    What passed from the files alone is left out: whoever asks has checked the files before.
    """
    return [
        replace(finding, fix=finding.fix or _FIXES.get(finding.check, ""))
        if finding.level == "fail"
        else finding
        for finding in findings
        if finding.level == "fail" or finding.check in ENGINE_CHECKS
    ]


async def post_lora_pin(request: web.Request) -> web.Response:
    """Keep an adapter in memory though nobody uses it, or no longer: `{"adapter": …, "pinned": true}`."""
    fields = Fields(json_object_parse(await request.read()))
    adapter = _adapter(fields)
    pinned = fields.boolean("pinned")
    fields.end()
    if not await request.app[FRONT].core.adapter_pin(adapter, pinned=pinned):
        raise ApiError(404, "not_found", "The adapter is not in memory; load it with /lora/prefetch first.")
    return _json({"ok": True, "pinned": pinned})


async def post_lora_unload(request: web.Request) -> web.Response:
    """Take an adapter out of memory; requests that use it end as they would have."""
    fields = Fields(json_object_parse(await request.read()))
    adapter = _adapter(fields)
    fields.end()
    return _json({"ok": True, "found": await request.app[FRONT].core.adapter_unload(adapter)})


async def get_lora(request: web.Request) -> web.Response:
    """State and tier of every adapter the core knows."""
    return _json({"adapters": await request.app[FRONT].core.adapter_list()})


async def get_metrics(request: web.Request) -> web.Response:
    """Everything countable, in Prometheus' text format."""
    front = request.app[FRONT]
    try:
        async with asyncio.timeout(METRICS_WAIT_S):
            adapters = await front.core.adapter_list()
    except (ApiError, TimeoutError):
        adapters = []  # A core in a long step answers at its end; the rest is known without it.
    body = front.book.metrics.render(front.core.stats, adapters)
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE})


async def get_live(request: web.Request) -> web.Response:
    """Whether this process still has its core; a start anew is due when it has not."""
    alive = not request.app[FRONT].core.closed.done()
    return _json({"status": "live" if alive else "failed"}, status=200 if alive else 503)


async def get_health(request: web.Request) -> web.Response:
    """Whether requests are taken, and how many there are."""
    front = request.app[FRONT]
    status = "draining" if front.draining else "failed" if front.core.closed.done() else "ready"
    body = {
        "status": status,
        "model": front.facts.ref,
        "context_length": front.facts.context_length,
        "active": front.active,
        "waiting": front.core.stats.waiting,
    }
    return _json(body, status=200 if status == "ready" else 503)


async def _load(request: web.Request, *, check: bool) -> AdapterLoaded:
    front = request.app[FRONT]
    fields = Fields(json_object_parse(await request.read()))
    adapter = _adapter(fields)
    fields.end()
    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            return await front.core.adapter_load(adapter, front.blobs / adapter, check=check)
    except TimeoutError:
        raise ApiError(
            503, "overloaded", "The adapter did not load in time. Try again.", retry_after_s=5
        ) from None


def _adapter(fields: Fields) -> str:
    adapter = text_check(fields.need("adapter"), "adapter")
    if not _HASH.fullmatch(adapter):
        raise invalid_value("adapter", "adapter must be a sha256 in lower-case hex.")
    return adapter


def _query_integer(request: web.Request, name: str, *, default: int, high: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= high):
        raise invalid_value(name, f"{name} must be an integer from 0 to {high}.")
    return int(text)


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
