"""`POST /v1/client_tokens`: a server with a key mints a token for a browser or a phone."""

import re
import secrets
import time
from typing import Any

import orjson

from kindling_billing.limits import Limits, Scope
from kindling_billing.money import usd_to_pico
from kindling_platform.gateway.auth import Caller, Keys
from kindling_platform.gateway.catalog import Catalog
from kindling_platform.gateway.client_tokens import ClientToken
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.names import parse_model_name
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.wallets import Wallets

DEFAULT_S, SHORTEST_S, LONGEST_S = 600, 10, 86_400
MOST_NAMES = 20
MOST_DIGITS = 40
PICO_PER_NANO = 1000
MOST_NANO = 10**15
FIELDS = ("models", "origins", "budget", "expires_in")
ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?|[a-z][a-z0-9+.-]{1,30}://[A-Za-z0-9.-]{0,253}")
# A budget outlives its token by as much as a request may run.
SPARE_S = 3600


async def client_token_post(
    request: Request, caller: Caller, *, keys: Keys, catalog: Catalog, wallets: Wallets
) -> None:
    """Answer with a new token; 403 for a token that asks for another."""
    if caller.token is not None:
        message = "A client token cannot mint another. Call this from your server, with a key."
        raise GatewayError(403, "key_required", message)
    fields = _object(await request.body())
    lasts_s = _seconds(fields.get("expires_in"))
    now_s = int(time.time())
    expires_at_s = now_s + lasts_s
    if caller.expires_at_s is not None:
        expires_at_s = min(expires_at_s, int(caller.expires_at_s))
    names = _strings(fields.get("models"), "models")
    models = None
    if names is not None:
        models = frozenset([(await catalog.find(caller, parse_model_name(name), name)).ref for name in names])
    token = ClientToken(
        id=f"ct_{secrets.token_hex(12)}",
        key_digest=caller.digest,
        expires_at_s=expires_at_s,
        models=models,
        origins=_origins(fields.get("origins")),
        budget_nano=_budget(fields.get("budget")),
    )
    if token.budget_nano is not None:
        scope = Scope("token", token.id, Limits(budget_total_nano=token.budget_nano))
        await wallets.open_budget(scope, lasts_ms=(expires_at_s - now_s + SPARE_S) * 1000)
    body = {
        "id": token.id,
        "object": "client_token",
        "token": keys.mint(token),
        "created_at": now_s,
        "expires_at": expires_at_s,
        "models": None if models is None else sorted(models),
        "origins": None if token.origins is None else sorted(token.origins),
        "budget": fields.get("budget"),
    }
    await request.reply(
        200, orjson.dumps(body), [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise GatewayError(
            400, "invalid_json", f"The request body is not valid JSON: {error.msg}."
        ) from error
    if not isinstance(fields, dict):
        raise GatewayError(400, "invalid_json", "The request body has to be a JSON object.")
    for name in fields:
        if name not in FIELDS:
            message = f"The field {name[:100]!r} is not known here. There are {', '.join(FIELDS)}."
            raise GatewayError(400, "unsupported_field", message, param=name[:100])
    return fields


def _seconds(value: Any) -> int:
    if value is None:
        return DEFAULT_S
    if type(value) is not int or not SHORTEST_S <= value <= LONGEST_S:
        raise _invalid("expires_in", f"a whole number of seconds from {SHORTEST_S} to {LONGEST_S}")
    return value


def _strings(value: Any, name: str) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_NAMES:
        raise _invalid(name, f"a list of 1 to {MOST_NAMES} strings")
    if not all(isinstance(item, str) for item in value):
        raise _invalid(name, f"a list of 1 to {MOST_NAMES} strings")
    return value


def _origins(value: Any) -> frozenset[str] | None:
    origins = _strings(value, "origins")
    if origins is None:
        return None
    if not all(ORIGIN.fullmatch(origin) for origin in origins):
        raise _invalid("origins", "a list of origins as browsers send them, such as https://app.example.com")
    return frozenset(origins)


def _budget(value: Any) -> int | None:
    if value is None:
        return None
    wanted = 'an amount of dollars above 0 as a string, such as "0.50"'
    if not isinstance(value, str) or len(value) > MOST_DIGITS:
        raise _invalid("budget", wanted)
    try:
        nano = usd_to_pico(value) // PICO_PER_NANO
    except ValueError as error:
        raise _invalid("budget", wanted) from error
    if not 0 < nano <= MOST_NANO:
        raise _invalid("budget", wanted)
    return nano


def _invalid(name: str, wanted: str) -> GatewayError:
    return GatewayError(400, "invalid_value", f"The field {name!r} has to be {wanted}.", param=name)
