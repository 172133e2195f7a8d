"""`bench_usage`: fills an empty database with requests and times the pages about them, as one JSON line."""

import json
import os
import resource
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
from django.test import Client

from kindling_platform.accounts.models import User
from kindling_platform.common.clock import now
from kindling_platform.embedded.bench_usage.company import DAYS, Company, company_make, requests_make
from kindling_platform.embedded.bench_usage.installation import LEDGER, installation_make
from kindling_platform.embedded.bench_usage.pages import (
    ADDRESSES,
    BILLING_ADDRESSES,
    CONSOLE,
    OPERATOR_ADDRESSES,
    Timed,
    page_time,
)
from kindling_platform.usage.rebuilding import days_rebuild

ROUNDS = 20
FORTNIGHT = 14
TABLES = (
    "usage_usageevent",
    "usage_usagehour",
    "usage_usageday",
    "usage_usageseries",
    "usage_usageseriesday",
)


class Command(BaseCommand):
    help = "Measure the pages about usage. Only for the database of a bench."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("requests", type=int)

    def handle(self, *_args: Any, **options: Any) -> None:
        company, end = company_make(), now()
        first = (end - timedelta(days=DAYS)).date()
        began = time.perf_counter()
        requests_make(
            company, count=options["requests"], end=end, say=lambda share: self.say("requests", share)
        )
        operator = installation_make(
            company, count=options["requests"], end=end, say=lambda share: self.say("ledger", share)
        )
        filled = time.perf_counter()
        self.rollups_make(first, end.date())
        rebuilt = time.perf_counter()
        rows = _tidy()
        pages = self.pages_time(company, first + timedelta(days=1))
        billing = self.pages_time(company, first + timedelta(days=1), addresses=BILLING_ADDRESSES)
        operated = self.pages_time(
            company, first + timedelta(days=1), addresses=OPERATOR_ADDRESSES, user=operator
        )
        figures = {
            "requests": options["requests"],
            "p95_ms": max(page.p95_ms for page in pages),
            "cpu_p50_ms": max(page.cpu_p50_ms for page in pages),
            "largest_page_kb": max(page.kilobytes for page in pages if page.address.startswith(CONSOLE)),
            "sql_p95_ms": max(page.sql_p95_ms for page in pages),
            "exact": is_exact(company),
            "fill_s": round(filled - began, 1),
            "rebuild_s": round(rebuilt - filled, 1),
            "rows": rows,
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "cores": os.cpu_count(),
            "operator_p95_ms": max(page.p95_ms for page in operated),
            "billing_p95_ms": max(page.p95_ms for page in billing),
            "pages": [asdict(page) for page in [*pages, *billing, *operated]],
        }
        self.stdout.write(json.dumps(figures))

    def rollups_make(self, first: date, last: date) -> None:
        """A fortnight at a time: sorts stay in memory, and one sees how far it is."""
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '256MB'")
        for day in range(0, (last - first).days + 1, FORTNIGHT):
            begun = first + timedelta(days=day)
            days_rebuild(first=begun, last=min(begun + timedelta(days=FORTNIGHT - 1), last))
            self.say("roll-ups", min(1.0, (day + FORTNIGHT) / ((last - first).days + 1)))
        with connection.cursor() as cursor:
            cursor.execute("RESET work_mem")

    def say(self, what: str, share: float) -> None:
        """How far it is, for whoever started it."""
        self.stdout.write(f"{share:.3f} {what}")
        self.stdout.flush()

    def pages_time(
        self,
        company: Company,
        first: date,
        *,
        rounds: int = ROUNDS,
        uncounted: int = 2,
        addresses: Sequence[str] = ADDRESSES,
        user: User | None = None,
    ) -> list[Timed]:
        """Every address, looked at by the owner or by somebody else."""
        client = Client(SERVER_NAME="localhost")
        client.force_login(user or company.user)
        names = {
            "model": f"{company.org.slug}/model-1", "member": company.user.email, "key": company.keys[0],
            "first": first.isoformat(), "org": company.org.id, "model_id": company.models[1],
        }  # fmt: skip
        timed = []
        for address in addresses:
            timed.append(page_time(client, address.format(**names), rounds=rounds, uncounted=uncounted))
            self.say("pages", len(timed) / len(addresses))
        return timed


def _tidy() -> dict[str, int]:
    """Do what the database's own upkeep does in time, and count the rows."""
    rows = {}
    with connection.cursor() as cursor:
        for table in (*TABLES, *LEDGER):
            cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608  # ours
            rows[table] = int(cursor.fetchone()[0])
    return rows


def is_exact(company: Company) -> bool:
    """Whether every roll-up sums to the requests, to the pico-dollar."""
    sums = set()
    with connection.cursor() as cursor:
        for query in (
            "SELECT count(*), sum(cost_picousd), sum(completion_tokens) FROM usage_usageevent",
            *(
                f"SELECT sum(requests), sum(cost_picousd), sum(completion_tokens) FROM {table}"  # noqa: S608
                for table in ("usage_usagehour", "usage_usageday")
            ),
            *(
                f"SELECT sum(requests) / 5, sum(cost_picousd) / 5, sum(completion_tokens) / 5 FROM {table}"  # noqa: S608
                for table in ("usage_usageseries", "usage_usageseriesday")
            ),
        ):
            cursor.execute(f"{query} WHERE organisation_id = %s", [company.org.id])
            sums.add(tuple(int(value) for value in cursor.fetchone()))
    return len(sums) == 1
