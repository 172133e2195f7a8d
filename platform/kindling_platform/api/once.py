"""`Idempotency-Key` of the control API: what makes something makes it once for a key, and answers as it did for a day.

Its row is that of the gateway's own (ADR 26), under another scope, and is written in the one transaction in which the
thing is made: whatever dies when, there are both or neither. So nothing in it may ask a network. Failures are not kept.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from cryptography.exceptions import InvalidTag
from django.conf import settings
from django.db import connection, transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from kindling_platform.accounts.once import HEADER, key_check, key_reused
from kindling_platform.api.caller import Caller, caller_of
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.gateway.idempotency.seal import Seal, seal_of
from kindling_platform.usage.models import IdempotentReply

KEPT = timedelta(hours=24)
REPLAYED = {"Idempotent-Replayed": "true"}
ONCE = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="1 to 255 printable characters. For 24 hours the same request again with it is answered with what the "
    "first one made, and makes nothing; another request with it is refused.",
)
ONCE_SHOWN = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="1 to 255 printable characters. For 24 hours the same request again with it makes nothing and is "
    "refused with `idempotency_replay`, whose `details` name what the first one made: its secret is shown once.",
)


@dataclass(slots=True)
class Turn:
    """One request's turn; with a `reply` there is nothing to do but to give it, unless another is kept in its place."""

    reply: Response | None = None
    kept: dict[str, Any] = field(default_factory=dict)

    def keep(self, response: Response) -> Response:
        """Have this given to whoever asks again."""
        self.kept = {"status": response.status_code, "body": json.loads(JSONRenderer().render(response.data))}
        return response

    def keep_id(self, made_id: str) -> None:
        """Have those who ask again told what was made; for answers with a secret, which is shown once."""
        self.kept = {"made": made_id}


@contextmanager
def once(request: Request) -> Iterator[Turn]:
    """A request's turn under its `Idempotency-Key`, in a transaction; without one, its turn without either.

    Raises:
        KindlingError: `idempotency_key_invalid`; `idempotency_key_reused` by another request; `idempotency_running`
            while the first one is; `idempotency_replay` where it was answered with a secret.
    """
    key = request.headers.get(HEADER)
    if key is None:
        yield Turn()
        return
    key_check(key, what="the same request again finds what the first one made.")
    seal = _seal(caller_of(request), key)
    body = json.dumps(request.data, sort_keys=True)
    asked = b"\0".join([seal.key, str(request.method).encode(), request.path.encode(), body.encode()])
    fingerprint = hashlib.sha256(asked).digest()
    with transaction.atomic():
        _alone(seal)
        turn, found = Turn(), IdempotentReply.objects.filter(digest=seal.digest).first()
        if found is not None and found.expires_at > now():
            turn.reply = _again(found, seal, fingerprint)
        yield turn
        if turn.kept:
            _keep(turn.kept, seal, caller_of(request), fingerprint)


def _seal(caller: Caller, key: str) -> Seal:
    scope = f"control:{caller.org.id}:{caller.actor.id}"
    return seal_of(settings.KINDLING_ENV.secret_key, scope=scope, key=key.encode())


def _alone(seal: Seal) -> None:
    """Refuse to run beside the same key; the lock ends with the transaction, and with whoever dies in it."""
    with connection.cursor() as cursor:
        number = int.from_bytes(seal.digest[:8], signed=True)
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (is_alone,) = cursor.fetchone()
    if not is_alone:
        text = f"A request with this {HEADER} is running. Ask again in a moment for its answer."
        raise KindlingError("idempotency_running", text, 409)


def _again(row: IdempotentReply, seal: Seal, fingerprint: bytes) -> Response:
    if bytes(row.fingerprint) != fingerprint:
        raise key_reused("request")
    try:
        kept = json.loads(seal.open(bytes(row.answer or b"")))
    except InvalidTag as error:
        raise key_reused("request") from error
    if "made" in kept:
        text = (
            f"An earlier request with this {HEADER} made {kept['made']}, and its secret was shown once. If you have "
            f"not got it, end that one and make another with a new {HEADER}."
        )
        raise KindlingError("idempotency_replay", text, 409, details={"id": kept["made"]})
    return Response(kept["body"], status=kept["status"], headers=REPLAYED)


def _keep(kept: dict[str, Any], seal: Seal, caller: Caller, fingerprint: bytes) -> None:
    moment = now()
    IdempotentReply.objects.update_or_create(
        digest=seal.digest,
        defaults={
            "organisation_id": caller.org.id,
            "fingerprint": fingerprint,
            "request_id": uuid4(),
            "earlier": [],
            "status": kept.get("status", 201),
            "answer": seal.close(json.dumps(kept).encode()),
            "leased_until": moment,
            "expires_at": moment + KEPT,
        },
    )
