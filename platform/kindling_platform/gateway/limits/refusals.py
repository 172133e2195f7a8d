"""What a caller hears who may not go on: 402 for money, 429 for limits, 503 when neither can be checked."""

from kindling_billing.admission import BUDGET, LIMITED, SLOTS, Verdict
from kindling_billing.limits import Scope
from kindling_platform.gateway.errors import GatewayError, insufficient_credit
from kindling_platform.gateway.limits.headers import rate_headers

UNITS = ("requests", "prompt tokens", "uncached prompt tokens", "generated tokens")
WHOSE = {
    "organisation": "your organisation",
    "member": "the member whose key this is",
    "key": "this API key",
    "token": "this client token",
}
PERIODS = ("for today", "for this month", "in all")
US_PER_S = 1_000_000


def refusal(scopes: tuple[Scope, ...], verdict: Verdict) -> GatewayError:
    """The error for a verdict that is no admission, with the rate-limit headers."""
    error = _refusal(scopes, verdict)
    error.headers |= {name.decode(): value.decode() for name, value in rate_headers(scopes, verdict)}
    return error


def limits_unavailable() -> GatewayError:
    """503 while neither the limits' server nor money set aside for this process is there."""
    message = "The platform cannot check limits and credit at the moment. Try again in a few seconds."
    return GatewayError(503, "limits_unavailable", message, headers={"retry-after": "2"})


def _refusal(scopes: tuple[Scope, ...], verdict: Verdict) -> GatewayError:
    if verdict.state not in (BUDGET, LIMITED, SLOTS):
        return insufficient_credit()
    scope = scopes[verdict.scope]
    whose = WHOSE[scope.kind]
    if verdict.state == BUDGET:
        message = (
            f"The budget of {whose} {PERIODS[verdict.period]} is used up, or does not cover this request."
        )
        return GatewayError(402, "budget_exceeded", message)
    if verdict.state == SLOTS:
        most = scope.limits.concurrent_requests
        message = (
            f"The limit of {most} requests at once of {whose} is reached. Wait until one of them has ended."
        )
        return GatewayError(429, "concurrency_limit_exceeded", message, headers={"retry-after": "1"})
    limit = scope.limits.rates[verdict.bucket]
    seconds = max(-(-verdict.wait_us // US_PER_S), 1)
    message = f"The limit of {limit} {UNITS[verdict.bucket]} a minute of {whose} is reached. Try again in {seconds} s."
    return GatewayError(429, "rate_limit_exceeded", message, headers={"retry-after": str(seconds)})
