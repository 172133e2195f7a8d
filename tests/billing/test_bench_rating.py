"""The bench of rating: its keys, and that it would notice a sum that is off."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from kindling_billing.bench import events, posting
from kindling_billing.bench.month import month_exact, month_rate, month_rerate
from kindling_billing.bench.posting import month_post
from kindling_billing.models import LedgerEntry
from kindling_billing.rating import Line
from kindling_billing.usage import UsageCharge
from kindling_platform.cli.forward import forward_argv


def test_a_small_month_is_exact_before_and_after_it_is_rated_anew():
    month = month_rate(3000)
    assert month_exact(month)
    assert month_rerate(month, 3000) > 100
    assert month_exact(month)


def test_one_unit_too_many_is_noticed():
    month = month_rate(500)
    month.move("org_000", "mdl_00", (Line("output", 1, 1),), 1)
    assert not month_exact(month)


def test_rating_alone_prints_the_agreed_keys_and_needs_no_database():
    program = (
        "import json, sys; from kindling_billing.bench.__main__ import rating_bench;"
        "print(json.dumps([rating_bench(2000), sorted(set(sys.modules) & {'django', 'psycopg'})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    figures, loaded = json.loads(done.stdout)
    assert set(figures) >= {"events", "seconds", "peak_rss_mb", "exact"}
    assert (figures["events"], figures["exact"], loaded) == (2000, True, [])


@pytest.fixture
def few_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invoice for each takes longer than their events."""
    for module in (events, posting):
        monkeypatch.setattr(module, "OWNERS", events.OWNERS[:20])


@pytest.mark.usefixtures("few_owners")
@pytest.mark.django_db
def test_a_small_month_is_exact_in_a_ledger_too():
    done = month_post(400)
    assert done.exact
    assert done.corrected > 10
    assert set(done.seconds) == {"post_s", "invoice_s", "rerate_s", "invoice_again_s", "prove_s"}


@pytest.mark.usefixtures("few_owners")
@pytest.mark.django_db
def test_a_ledger_that_is_one_unit_off_is_noticed(monkeypatch: pytest.MonkeyPatch):
    real = posting.usage_post

    def one_off(charges: list[UsageCharge]) -> set[str]:
        first = charges[0]
        line = Line("output", 1, first.cost_picousd + 1)
        return real([replace(first, cost_picousd=line.amount_picousd, lines=(line,)), *charges[1:]])

    monkeypatch.setattr(posting, "usage_post", one_off)
    assert not month_post(200).exact
    assert LedgerEntry.objects.exists()


def test_the_command_brings_a_database_of_its_own():
    argv = forward_argv(["bench", "rating", "--quick", "--json"])
    assert argv == [
        sys.executable, "-m", "kindling_platform.embedded", "bench", "rating", "--quick", "--json",
    ]  # fmt: skip
