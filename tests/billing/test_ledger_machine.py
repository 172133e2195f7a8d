"""The books under every mix of what can happen to them: some dozen walks here, ten thousand in the long run."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from kindling_ledger_machine import LedgerMachine

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


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


@pytest.mark.long
@pytest.mark.timeout(14_400)
@pytest.mark.django_db
def test_the_books_hold_in_ten_thousand_walks():
    walk(10_000, 12)
