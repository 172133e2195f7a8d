"""Wake-ups of everything that has to do with the payment provider, and of letters about money."""

from collections.abc import Callable
from smtplib import SMTPException

from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderAway, ProviderRefused
from kindling_platform.accounts.credit import signup_credit_claims
from kindling_platform.accounts.letters import letters_send
from kindling_platform.accounts.provider import provider_find
from kindling_platform.accounts.treasury import books_reconcile
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import running_hour_picousd
from kindling_workers import payments
from kindling_workers.app import app
from kindling_workers.books import deadlines_hold
from kindling_workers.complaints import complaints
from kindling_workers.ticks import tick


@app.task(name="payments.sweep")
def sweep() -> None:
    _with_provider("payments.sweep", payments.outbox_send)


@app.task(name="payments.topups")
def topups() -> None:
    # Whoever's clock is in another month would have another month's cap.
    if deadlines_hold():
        _with_provider("payments.topups", payments.topups_make)


@app.task(name="payments.invoices")
def invoices() -> None:
    if deadlines_hold():
        _with_provider("payments.invoices", payments.invoices_charge)


@app.task(name="payments.events")
def events() -> None:
    _with_provider("payments.events", payments.events_hear)


@app.task(name="payments.reconcile")
def reconcile() -> None:
    _with_provider("payments.reconcile", lambda _api: books_reconcile())


@app.task(name="payments.tell_wallet")
def tell_wallet(owner_id: str) -> None:
    with tick(f"payments.tell_wallet:{owner_id}") as mine:
        if mine:
            payments.wallet_tell(owner_id)


@app.task(name="payments.letters")
def letters() -> None:
    with tick("payments.letters") as mine:
        if not mine:
            return
        signup_credit_claims()
        try:
            letters_send(hour_cost=running_hour_picousd)
        except (SMTPException, OSError) as error:
            # The letters stay noted; the next tick tries again.
            complaints.complain("payments.letters mail", f"{type(error).__name__}: {error}")
        else:
            complaints.content("payments.letters mail")


def _with_provider(name: str, work: Callable[[StripeApi], object]) -> None:
    """One run at a time; a provider that is away is a complaint, and the next tick tries again."""
    api = provider_find()
    if api is None:
        return
    with tick(name) as mine:
        if not mine:
            return
        try:
            work(api)
        except (ProviderAway, ProviderRefused, KindlingError) as error:
            complaints.complain(name, f"{error.code}: {error.message}")
        else:
            complaints.content(name)
