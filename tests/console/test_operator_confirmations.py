"""What the operator does with money or with others' organisations asks who it is; the form goes on after that."""

import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.mail import send_mail
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from kindling_billing.credits import grant_list
from kindling_billing.models import PriceVersion
from kindling_billing.money import PICO_PER_USD
from kindling_billing.plans import plan_list
from kindling_console_world import Member, World
from kindling_departures import PASSWORD
from kindling_platform.accounts.reauthentication import CONFIRMED_FOR_S, SIGNED_IN_AT
from kindling_platform.deployments.models import Deployment
from kindling_platform.records.letters import letter_list

pytestmark = pytest.mark.django_db
AGAIN, OPERATED = "/accounts/reauthenticate/", "/console/operator/"
TABLE = "model,input_usd_per_million,cached_input_usd_per_million,output_usd_per_million"


@pytest.fixture
def stale(world: World) -> Client:
    """The operator's browser, a while after the sign-in."""
    cache.clear()
    user = world.operator.user
    user.set_password(PASSWORD)
    user.save()
    client = Client()
    client.force_login(user)
    session = client.session
    session[SIGNED_IN_AT] -= CONFIRMED_FOR_S + 1
    session.save()
    return client


def is_asked(reply, path: str) -> bool:
    return (reply.status_code, reply.headers.get("Location")) == (302, f"{AGAIN}?{urlencode({'next': path})}")


def confirm(client: Client, path: str):
    return client.post(AGAIN, {"password": PASSWORD, "next": path}, follow=True)


def test_letters_ask_as_they_may_sign_somebody_in(
    world: World, member: Member, stale: Client, settings, tmp_path
):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    send_mail("Set a new password", "Set it here: http://testserver/reset/abc/", None, [member.user.email])
    (letter,) = letter_list()
    path = f"{OPERATED}mail/{letter.id}/"
    assert stale.get(f"{OPERATED}mail/").status_code == 200
    assert is_asked(stale.get(path), path)
    assert "reset/abc" in confirm(stale, path).content.decode()


def test_money_prices_terms_and_organisations_ask(world: World, member: Member, stale: Client):
    org = f"{OPERATED}organisations/{member.org.id}/"
    theirs = Deployment.objects.create(organisation=member.org, model=world.model, name="theirs")
    run = f"/console/deployments/{theirs.id}/"
    price = {"model": world.model.id, "input": "0.2", "cached_input": "0.1", "output": "0.8"}
    seen = {"payment": "pay_1", "amount": "1", "reference": f"rfd_{26 * '0'}", "reason": "Broken."}
    for path, form in (
        (f"{org}suspension/", {"do": "suspend", "reason": "Stolen card."}),
        (f"{org}suspension/", {"do": "resume", "reason": "All is well."}),
        (f"{org}refund/", seen),
        (f"{org}terms/", {"do": "terms", "mode": "prepaid", "tax_percent": "0", "own_replicas": "1",
                          "credit_limit": "0", "net_days": "14"}),
        (f"{org}see-as/{member.user.id}/", {"reason": "Asked for."}),
        (f"{OPERATED}prices/", price | {"do": "publish"}),
        (f"{OPERATED}prices/plans/", {"name": "Schools"}),
        (f"{OPERATED}prices/pri_1/withdraw/", {}),
        (f"{OPERATED}risk/invoices/inv_1/give-up/", {"note": "n"}),
        (f"{OPERATED}reconciliation/mov_1/accept/", {"note": "n"}),
        (f"{OPERATED}records/usage/x/dismiss/", {"note": "n"}),
        (run, {"replicas": "2", "weights": "checkpoint"}),
        (f"{run}stop/", {}),
        (f"{run}delete/", {"name": "theirs"}),
    ):  # fmt: skip
        assert is_asked(stale.post(path, form), path), path
    opens = reverse("console:operator-deployable", args=[world.model.id])
    assert is_asked(stale.post(opens, {"do": "open"}), opens)
    own = reverse("console:deployment-action", args=[world.deployment.id, "stop"])
    assert stale.post(own).status_code == 303  # what is the operator's own is stopped as by anybody
    theirs.refresh_from_db()
    assert (theirs.desired_state, theirs.desired_replicas) == ("running", 1)
    member.org.refresh_from_db()
    assert member.org.suspended_at is None and not plan_list()
    assert PriceVersion.objects.filter(sku=world.model.id).count() == 1
    # To look, and to try what a price would do, nobody is asked.
    assert stale.post(f"{OPERATED}prices/", price | {"do": "preview"}).status_code == 200
    assert stale.get(org).status_code == 200


def test_credit_is_granted_once_it_is_confirmed(member: Member, stale: Client):
    path = reverse("console:operator-organisation", args=[member.org.id])
    form = re.findall(r'name="grant_id" value="([^"]+)"', stale.get(path).content.decode())
    given = {"grant_id": form[0], "amount": "7", "memo": "Sorry."}
    had = grant_list(owner_id=member.org.id).count()
    assert is_asked(stale.post(path, given), path) and grant_list(owner_id=member.org.id).count() == had
    assert "The credit is granted." in confirm(stale, path).content.decode()
    newest = grant_list(owner_id=member.org.id).order_by("-created_at")[0]
    assert (newest.amount_picousd, newest.memo) == (7 * PICO_PER_USD, "Sorry.")


def test_a_table_that_came_as_a_file_is_published_after_it(world: World, stale: Client):
    rows = f"{TABLE}\n{world.model.ref},0.3,0.1,0.9\n".encode()
    path = f"{OPERATED}prices/table/"
    sent = {"do": "publish", "file": SimpleUploadedFile("book.csv", rows, "text/csv")}
    assert is_asked(stale.post(path, sent), path)
    assert "1 prices are published." in confirm(stale, path).content.decode()
    assert PriceVersion.objects.filter(sku=world.model.id, input_picousd=300_000).count() == 1


def test_the_api_asks_a_session(world: World, member: Member, stale: Client):
    theirs = {"name": "theirs", "model": world.model.ref, "organisation": member.org.slug}
    refused = stale.post("/api/v1/deployments", theirs, "application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "reauthentication_required")
    path = f"/api/v1/operator/organisations/{member.org.id}/suspend"
    refused = stale.post(path, {"reason": "Stolen card."}, "application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "reauthentication_required")
    confirm(stale, "/console/")
    assert stale.post(path, {"reason": "Stolen card."}, "application/json").status_code == 200
