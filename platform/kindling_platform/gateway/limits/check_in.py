"""Admission of calls that reach no engine: they cost no money and count as requests like all others."""

from kindling_billing.admission import HELD, STALE, Claim
from kindling_platform.gateway.auth import Caller, Keys
from kindling_platform.gateway.limits.headers import rate_headers
from kindling_platform.gateway.limits.refusals import refusal
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.wallets import FREE, Wallets

ONE_REQUEST = (1, 0, 0, 0)


async def check_in(request: Request, caller: Caller, *, keys: Keys, wallets: Wallets) -> None:
    """Count a call against the limits of its caller.

    Raises:
        GatewayError: 429 when it is too many, 401 for a key that was revoked.
    """
    claim = Claim(request.id, prompt_picousd=0, price_picousd=0, tokens=0, least=0, units=ONE_REQUEST)
    verdict = await wallets.admit(caller.payer, claim)
    if verdict.state == STALE:
        caller = await keys.renew(caller, verdict.epoch)
        verdict = await wallets.admit(caller.payer, claim)
    if verdict.state != HELD:
        raise refusal(caller.limit_scopes, verdict)
    wallets.settle(caller.payer, request.id, FREE)
    request.extra_headers += rate_headers(caller.limit_scopes, verdict)
