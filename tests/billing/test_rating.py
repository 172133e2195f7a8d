"""Rating: exact integers, whatever the counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.money import PICO_PER_USD, pico_to_usd_text, usd_to_pico
from kindling_billing.rating import Price, event_cost_picousd

COUNTS = st.integers(0, 10**7)
PRICES = st.builds(Price, COUNTS, COUNTS, COUNTS)


@given(PRICES, COUNTS, COUNTS, COUNTS)
def test_cost_is_the_sum_over_tokens(price: Price, fresh: int, cached: int, made: int):
    cost = event_cost_picousd(
        price, prompt_tokens=fresh + cached, cached_tokens=cached, completion_tokens=made
    )
    assert cost == fresh * price.input + cached * price.cached_input + made * price.output


@pytest.mark.parametrize(("prompt", "cached", "made"), [(-1, 0, 0), (1, 2, 0), (1, 0, -1), (1, -1, 0)])
def test_impossible_counts_are_refused(prompt: int, cached: int, made: int):
    with pytest.raises(ValueError, match="token counts"):
        event_cost_picousd(Price(1, 1, 1), prompt_tokens=prompt, cached_tokens=cached, completion_tokens=made)


@given(st.integers(-(10**25), 10**25))
def test_dollars_as_text_lose_nothing_at_full_length(pico: int):
    assert usd_to_pico(pico_to_usd_text(pico, 12).replace(",", "")) == pico


@pytest.mark.parametrize(
    ("pico", "text"),
    [(PICO_PER_USD, "1.000000"), (23_400_000, "0.000023"), (250 * PICO_PER_USD, "250.00"), (0, "0.000000")],
)
def test_small_balances_show_six_decimals(pico: int, text: str):
    assert pico_to_usd_text(pico) == text


@pytest.mark.parametrize(
    "text", ["", "abc", "NaN", "Infinity", "0.0000000000001", "1_0", "\uff11", "1,000", "0x1"]
)
def test_what_is_not_an_amount_is_refused(text: str):
    with pytest.raises(ValueError, match=r"dollars|pico"):
        usd_to_pico(text)
