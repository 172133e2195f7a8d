"""The outbox over the API: what waits, what was refused, sending it again; and what no program gets to read."""

import pytest
from django.core.mail import send_mail

from kindling_billing.models import Notice
from kindling_billing.notices import notice_add, notice_not_taken
from kindling_people import ApiClient, Customer
from kindling_platform.audit.models import AuditEvent
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
WHY = "550 no such user"


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


@pytest.fixture
def refused_id(ada: Customer, settings) -> str:
    settings.EMAIL_FILE_PATH = None
    data = {"invoice": "inv_1", "number": "2026-000001", "open_cents": 1200}
    notice_add(kind="invoice.due", key="one", owner_id=ada.org.id, data=data)
    notice = Notice.objects.get(key="one")
    assert notice_not_taken(notice_id=notice.id, trouble=f"{ada.user.email}: {WHY}", is_final=True)
    return f"notice-{notice.id}"


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_a_refused_letter_is_found_read_and_sent_again(ada: Customer, till: ApiClient, refused_id: str):
    found = till.call("get", "operator/mail?state=refused").json()
    (row,) = found["data"]
    assert (found["is_kept"], row["id"], row["kind"]) == (False, refused_id, "invoice.due")
    assert (row["organisation_id"], row["to"]) == (ada.org.id, [ada.user.email])
    assert WHY in row["trouble"]
    one = till.call("get", f"operator/mail/{refused_id}").json()
    assert "$12.00 of invoice 2026-000001 are open." in one["body"]
    reply = till.call("post", f"operator/mail/{refused_id}/retry")
    assert (reply.status_code, reply.json()["state"]) == (202, "waiting")
    (waiting,) = till.call("get", "operator/mail?state=waiting").json()["data"]
    assert waiting["id"] == refused_id
    event = AuditEvent.objects.get(action="letter.retried")
    assert (event.actor_label, event.organisation_id) == ("key till", ada.org.id)
    Notice.objects.update(done_at=Notice.objects.get().created_at)
    assert refusal(till.call("post", f"operator/mail/{refused_id}/retry")) == (409, "letter_ended")


def test_the_text_of_a_kept_letter_is_for_the_page_alone(ada: Customer, till: ApiClient, settings, tmp_path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    send_mail("Your password", "https://example.test/reset/secret-link/", None, [ada.user.email])
    found = till.call("get", "operator/mail").json()
    (row,) = found["data"]
    assert (found["is_kept"], row["state"], row["subject"]) == (True, "kept", "Your password")
    one = till.call("get", f"operator/mail/{row['id']}")
    assert (one.status_code, one.json()["body"]) == (200, None)
    assert "secret-link" not in one.content.decode()
    assert refusal(till.call("post", f"operator/mail/{row['id']}/retry")) == (409, "letter_ended")


def test_what_is_none(till: ApiClient):
    assert refusal(till.call("get", "operator/mail?state=lost")) == (400, "parameter_invalid")
    for letter_id in ("none", "notice-9", "budget-alt_none"):
        assert refusal(till.call("get", f"operator/mail/{letter_id}")) == (404, "not_found")
        assert refusal(till.call("post", f"operator/mail/{letter_id}/retry")) == (404, "not_found")
