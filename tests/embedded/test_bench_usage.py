"""The bench of usage: its requests, the pages that it looks at, and what it says of them."""

from io import StringIO

import pytest
from django.db import connection
from django.test import Client

from kindling_billing.models import LedgerEntry
from kindling_billing.selectors import drift_list, ledger_sum
from kindling_platform.cli.forward import forward_argv
from kindling_platform.common.clock import now
from kindling_platform.embedded.bench_usage.company import DAYS, company_make, requests_make
from kindling_platform.embedded.bench_usage.installation import installation_make
from kindling_platform.embedded.bench_usage.pages import (
    ADDRESSES,
    BILLING_ADDRESSES,
    OPERATOR_ADDRESSES,
    page_time,
)
from kindling_platform.embedded.management.commands.bench_usage import Command, is_exact
from kindling_platform.usage.models import UsageEvent, UsageHour
from kindling_platform.usage.selectors import usage_totals

REQUESTS = 600


@pytest.mark.django_db
def test_every_page_is_answered_from_roll_ups_that_are_exact():
    company, end = company_make(), now()
    shares: list[float] = []
    requests_make(company, count=REQUESTS, end=end, say=shares.append)
    assert shares == [1.0]
    first, last = UsageEvent.objects.earliest("finished_at"), UsageEvent.objects.latest("finished_at")
    assert (last.finished_at - first.finished_at).days == DAYS - 1
    output = StringIO()
    command = Command(stdout=output)
    command.rollups_make(first.finished_at.date(), end.date())
    assert output.getvalue().splitlines()[-1] == "1.000 roll-ups"
    assert is_exact(company)
    assert usage_totals(org=company.org, start=first.finished_at, end=end).requests == REQUESTS
    pages = command.pages_time(company, first.finished_at.date(), rounds=2, uncounted=0)
    assert len(pages) == len(ADDRESSES)
    assert all(0 < page.sql_p95_ms <= page.p95_ms and page.cpu_p50_ms > 0 for page in pages)
    operator = installation_make(company, count=REQUESTS, end=end, say=shares.append)
    assert shares == [1.0, 1.0]
    assert (ledger_sum(), drift_list()) == (0, [])
    assert LedgerEntry.objects.filter(transaction__source_type="usage").count() == 2 * REQUESTS
    for addresses, user in ((BILLING_ADDRESSES, company.user), (OPERATOR_ADDRESSES, operator)):
        seen = command.pages_time(company, end.date(), rounds=2, uncounted=0, addresses=addresses, user=user)
        assert [page.queries > 0 for page in seen] == [True] * len(addresses)
    UsageHour.objects.filter(requests__gt=0).update(cost_picousd=0)
    assert not is_exact(company)


@pytest.mark.django_db
def test_a_page_that_is_refused_is_no_figure():
    with pytest.raises(ValueError, match="answered 302"):
        page_time(Client(SERVER_NAME="localhost"), "/console/usage/", rounds=2)
    assert connection.execute_wrappers == []


def test_the_command_leads_to_it():
    assert forward_argv(["bench", "usage", "--quick"])[1:] == [
        "-m", "kindling_platform.embedded", "bench", "usage", "--quick",
    ]  # fmt: skip
