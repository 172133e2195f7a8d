"""Where the payment provider reports what happened; the signature is the only thing that is believed."""

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from kindling_billing.errors import BillingError
from kindling_billing.stripe_api.outcomes import ProviderAway
from kindling_billing.webhooks.receiving import MAX_BYTES, webhook_receive
from kindling_platform.accounts.provider import provider_find
from kindling_platform.accounts.treasury import wallets_tell
from kindling_platform.api.errors import error_body
from kindling_platform.common.actors import PROVIDER_LABEL, Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.origin import origin_actor_set
from kindling_platform.common.requests import client_ip

log = structlog.get_logger("kindling.payments")


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Take an event in: 2xx for those that need not come again, known and parked ones included."""
    api, secret = provider_find(), settings.KINDLING_ENV.stripe_webhook_secret
    if api is None or not secret:
        return _refused(
            KindlingError("webhooks_off", "Set KINDLING_STRIPE_WEBHOOK_SECRET to take webhooks.", 503)
        )
    if len(request.body) > MAX_BYTES:
        return _refused(KindlingError("request_too_large", "An event is smaller than this.", 413))
    origin_actor_set(Actor(id="", label=PROVIDER_LABEL, ip=client_ip(request)))
    try:
        receipt = webhook_receive(
            api, payload=request.body, header=request.headers.get("Stripe-Signature", ""), secret=secret
        )
    except BillingError as error:
        log.warning("webhook.refused", code=error.code)
        return _refused(KindlingError(error.code, error.message))
    except ProviderAway as error:
        log.warning("webhook.put_off", code=error.code)
        return _refused(KindlingError("payment_provider_away", "Tell again later.", 503))
    wallets_tell(receipt.owner_ids)
    if receipt.state == "parked":
        log.warning("webhook.parked")
    return JsonResponse({"state": receipt.state})


def _refused(error: KindlingError) -> HttpResponse:
    return JsonResponse(error_body(error), status=error.status)
