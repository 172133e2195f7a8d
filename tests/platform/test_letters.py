"""Letters and a mail server that does not take them all: none holds another up, and refused ones are sent again."""

from collections.abc import Iterator

import pytest

from kindling_billing.models import Notice
from kindling_billing.notices import notice_add
from kindling_people import Customer, make_customer
from kindling_platform.accounts.letters import letters_send
from kindling_platform.accounts.models import Membership
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import running_hour_picousd
from kindling_platform.keys.alerts import alerts_send
from kindling_platform.keys.limits import limits_get, limits_set
from kindling_platform.keys.models import BudgetAlert
from kindling_platform.records.letters import letter_get, letter_list, letter_retry
from kindling_smtp import MailServer, mail_server

pytestmark = pytest.mark.django_db
UNKNOWN, LATER = "550 no such user", "450 try again later"


@pytest.fixture
def post(settings) -> Iterator[MailServer]:
    with mail_server() as server:
        server.settle(settings)
        yield server


def tell(customer: Customer) -> str:
    """A notice for somebody; gives its letter's id."""
    notice_add(kind="owner.resumed", key=customer.org.id, owner_id=customer.org.id)
    return f"notice-{Notice.objects.get(owner_id=customer.org.id).id}"


def send() -> int:
    return letters_send(hour_cost=running_hour_picousd)


def states() -> dict[str, str]:
    return {letter.id: letter.state for letter in letter_list()}


def test_a_refused_letter_holds_no_other_up(ada: Customer, bob: Customer, post: MailServer):
    post.refusing[ada.user.email] = UNKNOWN
    first, second = tell(ada), tell(bob)
    assert states() == {first: "waiting", second: "waiting"}
    assert send() == 2
    assert states() == {first: "refused", second: "sent"}
    assert letter_get(letter_id=first).trouble == f"{ada.user.email}: {UNKNOWN}"
    assert (len(post.said_to(bob.user.email)), send()) == (1, 0)
    assert [letter.id for letter in letter_list(state="refused")] == [first]


def test_what_was_refused_is_sent_again_when_the_operator_asks(ada: Customer, post: MailServer):
    post.refusing[ada.user.email] = UNKNOWN
    letter_id = tell(ada)
    send()
    post.refusing.clear()
    assert send() == 0
    for _ in range(2):
        assert letter_retry(letter_id=letter_id, actor=SYSTEM).state == "waiting"
    assert AuditEvent.objects.filter(action="letter.retried", target=letter_id).count() == 1
    assert send() == 1
    (text,) = post.said_to(ada.user.email)
    assert f"Inference of {ada.org.name} goes on" in text
    with pytest.raises(KindlingError) as refused:
        letter_retry(letter_id=letter_id, actor=SYSTEM)
    assert refused.value.code == "letter_ended"


def test_one_that_may_come_later_waits_and_is_tried_by_itself(ada: Customer, bob: Customer, post: MailServer):
    post.refusing[ada.user.email] = LATER
    first, second = tell(ada), tell(bob)
    assert send() == 1
    assert states() == {first: "waiting", second: "sent"}
    assert LATER in letter_get(letter_id=first).trouble
    post.refusing.clear()
    assert send() == 1
    assert states()[first] == "sent"
    assert letter_get(letter_id=first).trouble == ""


def test_whom_it_has_reached_gets_it_once(ada: Customer, post: MailServer):
    friend = make_customer("friend")
    Membership.objects.filter(user=friend.user).update(organisation=ada.org, role="billing")
    post.refusing[friend.user.email] = UNKNOWN
    letter_id = tell(ada)
    send()
    send()
    assert len(post.said_to(ada.user.email)) == 1
    told = letter_get(letter_id=letter_id)
    assert (told.state, told.trouble) == ("sent", f"{friend.user.email}: {UNKNOWN}")


def test_letters_about_budgets_go_the_same_way(ada: Customer, post: MailServer):
    limits_set(org=ada.org, values={"budget_month_picousd": 10**12}, actor=SYSTEM)
    alert = BudgetAlert.objects.create(
        organisation=ada.org, limit_set=limits_get(org=ada.org), period="202601", percent=80,
        budget_picousd=10**12, spent_picousd=8 * 10**11,
    )  # fmt: skip
    post.refusing[ada.user.email] = UNKNOWN
    assert alerts_send() == 0
    (letter,) = letter_list(state="refused")
    assert (letter.id, letter.kind, letter.to) == (f"budget-{alert.id}", "budget.reached", [ada.user.email])
    post.refusing.clear()
    assert alerts_send() == 0
    letter_retry(letter_id=letter.id, actor=SYSTEM)
    assert alerts_send() == 1
    assert letter_get(letter_id=letter.id).state == "sent"


def test_a_server_that_is_away_refuses_nothing(ada: Customer, settings):
    with mail_server() as server:
        server.settle(settings)
    letter_id = tell(ada)
    with pytest.raises(OSError):
        send()
    assert states() == {letter_id: "waiting"}


@pytest.mark.parametrize(
    "letter_id", ["notice-1", "notice-x", "notice-²", f"notice-{10**30}", "budget-alt_none", "none", ""]
)
def test_letters_that_are_none(letter_id: str):
    with pytest.raises(KindlingError) as refused:
        letter_get(letter_id=letter_id)
    assert refused.value.code == "not_found"
