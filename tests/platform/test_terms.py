"""What the operator agrees with an organisation: audited with before and after, told to the gateway's copies."""

from datetime import timedelta

import pytest

from kindling_billing.plans import plan_owner_map
from kindling_billing.selectors import spendable_map
from kindling_billing.terms import terms_get
from kindling_people import Customer
from kindling_platform.accounts.terms import payment_terms_set, price_plan_assign, price_plan_make
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

pytestmark = pytest.mark.django_db
DOLLAR = 10**12


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    owners: list[str] = []
    monkeypatch.setattr(
        "kindling_platform.accounts.treasury.enqueue",
        lambda name, **kwargs: owners.append(kwargs["owner_id"]),
    )
    return owners


def test_post_paid_terms_are_set_and_what_is_left_to_spend_follows(
    operator: Customer, ada: Customer, told: list[str]
):
    payment_terms_set(
        org=ada.org, actor=operator.actor, mode="postpaid", credit_limit_picousd=50 * DOLLAR, net_days=30
    )
    terms = terms_get(owner_id=ada.org.id)
    assert (terms.mode, terms.credit_limit_picousd, terms.net_days, terms.tax_basis_points) == (
        "postpaid", 50 * DOLLAR, 30, 0,
    )  # fmt: skip
    assert spendable_map(owner_ids=[ada.org.id])[ada.org.id].picousd == 51 * DOLLAR
    assert told == [ada.org.id]
    event = AuditEvent.objects.get(action="terms.changed", target=ada.org.id)
    assert (event.data["before"]["mode"], event.data["after"]["net_days"]) == ("prepaid", "30")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mode": "never"}, "terms_invalid"), ({"net_days": 121}, "terms_invalid"),
        ({"credit_limit_picousd": -1}, "amount_invalid"), ({"bill_to": "me"}, "terms_invalid"),
    ],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused(
    operator: Customer, ada: Customer, told: list[str], changes, code: str
):
    with pytest.raises(KindlingError) as error:
        payment_terms_set(org=ada.org, actor=operator.actor, **changes)
    assert error.value.code == code
    assert (terms_get(owner_id=ada.org.id).version, told) == (0, [])
    assert not AuditEvent.objects.filter(action="terms.changed").exists()


def test_an_organisation_is_on_a_plan_from_a_moment_on(operator: Customer, ada: Customer):
    plan = price_plan_make(name=" Partner ", actor=operator.actor)
    price_plan_assign(
        org=ada.org, plan_id=plan.id, actor=operator.actor, valid_from=now() + timedelta(days=2)
    )
    assert plan_owner_map() == {}
    assert plan_owner_map(at=now() + timedelta(days=3)) == {plan.id: [ada.org.id]}
    price_plan_assign(org=ada.org, plan_id="", actor=operator.actor, valid_from=now() + timedelta(days=4))
    assert plan_owner_map(at=now() + timedelta(days=5)) == {}
    seen = AuditEvent.objects.filter(action="plan.assigned", target=ada.org.id).order_by("created_at", "id")
    assert [(event.data["before"], event.data["after"]) for event in seen] == [("", plan.id), (plan.id, "")]
    assert AuditEvent.objects.get(action="plan.created").data == {"name": "Partner"}


def test_plans_that_cannot_be_are_refused(operator: Customer, ada: Customer):
    price_plan_make(name="Partner", actor=operator.actor)
    tries = [
        ("plan_taken", lambda: price_plan_make(name="Partner", actor=operator.actor)),
        ("name_invalid", lambda: price_plan_make(name=" ", actor=operator.actor)),
        ("plan_unknown", lambda: price_plan_assign(org=ada.org, plan_id="pln_none", actor=operator.actor)),
        ("valid_from_past", lambda: price_plan_assign(
            org=ada.org, plan_id="", actor=operator.actor, valid_from=now() - timedelta(days=1))),
    ]  # fmt: skip
    for code, attempt in tries:
        with pytest.raises(KindlingError) as error:
            attempt()
        assert error.value.code == code
