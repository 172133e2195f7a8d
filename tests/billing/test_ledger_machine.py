"""The books under every mix of what can happen to them: some dozen walks here, ten thousand in the long run."""

import gc

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from kindling_ledger_machine import LedgerMachine

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PARTS, WALKS = 4, 2_500


def walk(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=CHECKS
        ),
    )


@pytest.mark.django_db
def test_the_books_hold_whatever_happens():
    walk(12, 12)


@pytest.fixture
def rarely_collected():
    """What queries leave behind is garbage without cycles; looking for some takes a tenth of a walk."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    yield
    gc.set_threshold(*before)


# In parts, so that several workers share them.
@pytest.mark.long
@pytest.mark.timeout(7_200)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_books_hold_in_ten_thousand_walks(part: int, rarely_collected: None):
    walk(WALKS, 12)
