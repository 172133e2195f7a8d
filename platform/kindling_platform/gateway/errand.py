"""A request on its way to one engine: what its head and the spool say, made while Valkey decides whether it may go."""

from collections.abc import Mapping
from dataclasses import dataclass

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.routing import Replica
from kindling_platform.gateway.spool.context import context_text
from kindling_platform.gateway.spool.recorder import Opening, opening
from kindling_platform.gateway.upstream import lines_of

# What a client may say to the engine by header; the engine checks it.
FORWARDED_HEADERS = (b"x-prompt-cache-isolation-key",)
# Nobody waits for an answer of a batch: whoever does goes first. The engine lets what has waited long rise.
BATCH_PRIORITY = "-12"


@dataclass(frozen=True, slots=True)
class Errand:
    """For one replica under one id; `lines` are the headers that are known before the request is admitted."""

    replica: Replica
    request_id: str
    lines: bytes
    opening: Opening


def errand_make(
    request_id: str, given: Mapping[bytes, bytes], *, caller: Caller, model: Model, replica: Replica
) -> Errand:
    """The errand of a request with these headers. Errors: NotSentError for one that is no header."""
    context = context_text(caller, model, deployment_id=replica.deployment_id)
    headers = {
        "content-type": "application/json",
        "x-kindling-request": request_id,
        "x-kindling-adapter": model.adapter_hash,
        "x-kindling-salt": caller.salt_hex,
        "x-kindling-tenant": caller.org_id,
        "x-kindling-priority": BATCH_PRIORITY if caller.batch else "0",
        "x-kindling-context": context,
    }
    for name in FORWARDED_HEADERS:
        if value := given.get(name):
            headers[name.decode()] = value.decode("latin-1")
    opened = opening(
        request_id, context=context, tenant=caller.org_id, adapter=model.adapter_hash, replica=replica.name
    )
    return Errand(replica, request_id, lines_of(headers), opened)
