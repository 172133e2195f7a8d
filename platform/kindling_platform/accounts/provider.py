"""The payment provider of this installation: Stripe, its stand-in, or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings

from kindling_billing.errors import BillingError
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderAway, ProviderRefused
from kindling_platform.common.errors import KindlingError
from kindling_platform.config.env import STRIPE_OFF

AWAY = "The payment provider does not answer. Nothing was charged; try again in a moment."
REFUSED = "The payment provider refused: {}"


def provider_find() -> StripeApi | None:
    """The provider, None where payments are off."""
    env = settings.KINDLING_ENV
    if not env.stripe_secret_key or env.stripe_secret_key == STRIPE_OFF:
        return None
    return _client(env.stripe_secret_key, env.stripe_api_base)


def provider_get() -> StripeApi:
    """The provider.

    Raises:
        KindlingError: `payments_off`.
    """
    found = provider_find()
    if found is None:
        raise KindlingError("payments_off", "This installation takes no payments. Ask its operator.", 409)
    return found


def is_stand_in() -> bool:
    """Whether payments go to the stand-in that comes with Kindling, where no money moves."""
    return provider_find() is not None and settings.KINDLING_ENV.stripe_api_base is not None


def is_test_mode() -> bool:
    """Whether no real money moves: with the stand-in, or with a key of Stripe's test mode."""
    found = provider_find()
    return found is not None and not found.is_live


@contextmanager
def refusals() -> Iterator[None]:
    """Billing's and the provider's refusals as those that pages and the API show."""
    try:
        yield
    except BillingError as error:
        raise KindlingError(error.code, error.message) from error
    except ProviderAway as error:
        raise KindlingError("payment_provider_away", AWAY, 503) from error
    except ProviderRefused as error:
        raise KindlingError("payment_provider_refused", REFUSED.format(error.message), 502) from error


@cache
def _client(secret_key: str, api_base: str | None) -> StripeApi:
    return StripeApi(secret_key, api_base=api_base)
