"""Stripe's client, set up so that every retry is ours: the outbox knows what may be sent again.

It takes half a second to import, so it is imported when something is asked of Stripe, and not at every start.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kindling_billing.pooled import connection_lend
from kindling_billing.stripe_api.outcomes import ProviderAway, ProviderRefused

if TYPE_CHECKING:
    import requests
    import stripe

T = TypeVar("T")
TIMEOUT_S = (5.0, 20.0)
PAGE_ROWS = 100
# The client logs every request, and at its finest level what was sent: addresses and names of customers.
logging.getLogger("stripe").setLevel(logging.WARNING)


class StripeApi:
    """One account at Stripe; safe to share among threads.

    Errors of everything that is asked through it: `ProviderAway`, `ProviderRefused`.
    """

    def __init__(self, secret_key: str, *, api_base: str | None = None) -> None:
        import stripe

        self.is_live = secret_key.startswith(("sk_live_", "rk_live_"))
        addresses: Any = {"api": api_base} if api_base else {}
        client = stripe.StripeClient(
            secret_key,
            base_addresses=addresses,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=TIMEOUT_S, session=_session(api_base)),
        )
        self.v1 = client.v1

    def ask(self, request: Callable[[], Any]) -> dict[str, Any]:
        """Make one request; the answer as plain dictionaries."""
        with translated():
            found: dict[str, Any] = request().to_dict()
            return found

    def rows(self, request: Callable[[dict[str, Any]], Any], params: dict[str, Any]) -> list[dict[str, Any]]:
        """Every row of a list, newest first, page by page."""
        with translated():
            page = request({"limit": PAGE_ROWS, **params})
            return [row.to_dict() for row in page.auto_paging_iter()]


def _session(api_base: str | None) -> "requests.Session | None":
    """Proxies of the environment do not lead to a stand-in on this machine; None leaves a session to the client."""
    host = urlsplit(api_base or "").hostname or ""
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        return None
    import requests

    session = requests.Session()
    session.trust_env = False
    return session


@contextmanager
def translated() -> Iterator[None]:
    """Stripe's errors as the two that matter here; others may have the database's connection meanwhile."""
    import stripe

    connection_lend()
    try:
        yield
    except stripe.CardError as error:
        raise ProviderRefused(error.code or "card_declined", said(error), intent=_intent_of(error)) from error
    except stripe.IdempotencyError as error:
        raise ProviderRefused("idempotency_mismatch", said(error)) from error
    except stripe.InvalidRequestError as error:
        if error.http_status == 409:
            raise ProviderAway("in_progress", said(error)) from error
        raise ProviderRefused(
            error.code or "request_invalid", said(error), param=str(error.param or "")
        ) from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise ProviderAway("key_refused", "Stripe refuses the secret key.") from error
    except stripe.RateLimitError as error:
        raise ProviderAway("rate_limited", said(error)) from error
    except stripe.APIConnectionError as error:
        raise ProviderAway("no_answer", "Stripe did not answer.") from error
    except stripe.StripeError as error:
        raise ProviderAway("failed", said(error), failed=error.http_status == 500) from error


def said(error: "stripe.StripeError") -> str:
    """What Stripe says, for people."""
    return str(error.user_message or error.code or type(error).__name__)[:300]


def _intent_of(error: "stripe.CardError") -> dict[str, Any] | None:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    found = body.get("error", {}).get("payment_intent")
    return dict(found) if found else None
