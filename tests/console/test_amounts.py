"""How amounts are written and read: signs, tiny ones, prices of hours, and what is no amount."""

import pytest

from kindling_billing.gpu_hours import HOUR_MS, hour_price_plain
from kindling_billing.money import round_half_even
from kindling_billing.services import credit_grant
from kindling_console.forms.amounts import dollars_typed
from kindling_console.forms.prices import gpu_hour_text
from kindling_console.templatetags.kindling import gpu_hour, usd_cost, usd_exact
from kindling_console_world import Member, World

DOLLAR = 10**12
LIMIT, ADD, AUTO = "/console/billing/limit/", "/console/billing/add/", "/console/billing/auto/"


@pytest.mark.parametrize(
    ("picousd", "text"),
    [
        (0, "$0"), (500, "$0.0000000005"), (-500, "−$0.0000000005"), (-20 * DOLLAR, "−$20.00"),
        (20 * DOLLAR, "$20.00"), (-DOLLAR // 2, "−$0.500000"), (600_000, "$0.0000006"), (-3_000_000, "−$0.000003"),
    ],
)  # fmt: skip
def test_costs_have_their_sign_before_the_dollar_and_are_never_cut_to_nothing(picousd: int, text: str):
    assert usd_cost(picousd) == text


def test_the_whole_truth_has_its_sign_there_too():
    assert usd_exact(-5) == "−$0.000000000005"


@pytest.mark.parametrize("typed", ["0.60", "2.50", "1.00", "0.0036", "12.345", "9999.99"])
def test_a_price_of_an_hour_is_shown_as_it_was_typed(typed: str):
    kept = round_half_even(dollars_typed(typed), HOUR_MS)
    assert hour_price_plain(kept) == dollars_typed(typed)
    assert gpu_hour_text(kept) == typed
    assert f">${typed}<" in gpu_hour(kept).replace(",", "")


def test_what_an_hour_truly_costs_is_in_the_title():
    assert gpu_hour(166_667) == '<span title="$0.600001200000">$0.60</span>'


@pytest.mark.parametrize("text", ["1e3", "1,5", "1,0000", ",5", "", "$", "0x10", "1_000", "١"])
def test_what_is_no_amount_of_dollars_is_not_taken_for_one(text: str):
    with pytest.raises(ValueError):
        dollars_typed(text)


@pytest.mark.parametrize(
    ("text", "cents"),
    [("$1,000", 100_000), ("1000.5", 100_050), (" $ 7 ", 700), ("1,234,567.89", 123_456_789)],
)
def test_amounts_are_taken_as_people_write_them(text: str, cents: int):
    assert dollars_typed(text) == cents * DOLLAR // 100


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("1e3", "Give an amount such as 25 or 7.50."),
        ("2000000", "Give an amount from $0 to $1,000,000."),
        ("-1", "Give an amount from $0 to $1,000,000."),
        ("7.505", "Give whole cents, such as 7.50."),
        ("0", "A limit is more than nothing"),
    ],
)
def test_a_limit_that_is_refused_says_why(member: Member, limit: str, words: str):
    reply = member.client.post(LIMIT, {"limit": limit})
    assert (reply.status_code, words in reply.content.decode()) == (422, True)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("budget_day_picousd", "1000001", "A budget is at most $1,000,000"),
        ("budget_day_picousd", "0", "A limit is more than nothing"),
        ("requests_per_minute", str(10**15), "A rate is at most"),
    ],
)
def test_a_limit_that_is_too_large_is_told_so(member: Member, field: str, value: str, words: str):
    url = f"/console/keys/{member.key().id}/limits/"
    reply = member.client.post(url, {field: value})
    assert (reply.status_code, words in reply.content.decode()) == (422, True)


@pytest.mark.parametrize("amount", ["0", "4.99", "10000.01", "900000"])
def test_a_top_up_is_refused_with_the_bounds_that_its_hint_names(member: Member, payments_on, amount: str):
    html = member.client.post(ADD, {"amount": amount}).content.decode()
    assert "A top-up is between $5 and $10,000." in html


def test_the_operators_pages_do_not_round_a_balance_up(world: World, member: Member):
    credit_grant(owner_id=member.org.id, amount_picousd=40 * DOLLAR, source_id="gift", memo="", actor_id="")
    world.use(member)
    html = world.operator.client.get(f"/console/operator/organisations/{member.org.id}/").content.decode()
    assert ">$40.999997<" in html and ">$41.00<" not in html
