"""Times pages and answers about usage: the whole of the server's work for one, and its database's part."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.test import Client

CONSOLE, API = "/console/usage/", "/api/v1/usage"
ADDRESSES = (
    *(f"{CONSOLE}?range={key}&by={by}" for key in ("24h", "7d", "30d", "90d") for by in ("model", "key")),
    *(f"{CONSOLE}?range=90d&by={by}" for by in ("adapter", "member", "status")),
    *(
        f"{CONSOLE}?range=90d&by=key&tz={zone}"
        for zone in ("Europe/Berlin", "America/New_York", "Asia/Kathmandu")
    ),
    f"{CONSOLE}?range=30d&by=key&interval=hour&tz=Europe/Berlin",
    f"{CONSOLE}?range=90d&by=model&status=stop&tz=Asia/Kolkata",
    f"{CONSOLE}?range=90d&by=key&model={{model}}&status=stop",
    f"{CONSOLE}?range=90d&by=key&model={{model}}&status=stop&tz=Europe/Berlin",
    f"{CONSOLE}?range=90d&by=model&member={{member}}&show=latency",
    f"{CONSOLE}requests/?key={{key}}&tz=Europe/Berlin",
    f"{API}?from={{first}}&group_by=key&interval=day",
    f"{API}?from={{first}}&group_by=model&interval=day&tz=Europe/Berlin&compare=previous",
    f"{API}?from={{first}}&group_by=member",
)

OPERATOR, OPERATOR_API = "/console/operator/", "/api/v1/operator/"
OPERATOR_ADDRESSES = (
    *(
        f"{OPERATOR}{path}"
        for path in (
            "organisations/", "organisations/?q=1999", "organisations/{org}/", "organisations/{org}/terms/",
            "organisations/{org}/limits/", "payments/", "prices/", "prices/table/", "prices/plans/", "margins/",
            "margins/{model_id}/", "revenue/?range=30d&by=organisation", "revenue/?range=90d&by=model",
            "revenue/?range=12m&by=organisation", "risk/", "reconciliation/", "records/", "records/?kind=witnesses",
            "records/proofs/", "records/rating-anew/", "audit/", "audit/?money=1", "audit/?org=bench", "fleet/",
            "mail/",
        )
    ),
    *(
        f"{OPERATOR_API}{path}"
        for path in (
            "organisations?limit=500", "organisations/{org}", "organisations/{org}/grants",
            "organisations/{org}/payments", "organisations/{org}/limits", "organisations/{org}/terms",
            "organisations/{org}/plans", "plans", "prices", "costs", "hosted-prices", "invoices", "invoices/unpaid",
            "at-risk", "margins", "margins/{model_id}", "revenue?from={first}",
            "revenue/shares?from={first}&by=model", "reconciliation", "reconciliation/movements", "records",
            "records/usage?limit=500", "records/witnesses", "proofs", "reratings", "deployments",
            "audit?limit=500", "audit?only=money",
        )
    ),
)  # fmt: skip
# What the customer with all those requests sees of their money, and of what is spent by whom.
BILLING_ADDRESSES = (
    "/console/billing/",
    *(f"/console/billing/?kind={kind}" for kind in ("usage", "gpu_time", "payment", "credit")),
    *("/console/", "/console/limits/", "/console/team/", "/api/v1/members"),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """One address: percentiles of milliseconds, in all and in the database; the processor's time outside of that."""

    address: str
    p50_ms: float
    p95_ms: float
    sql_p95_ms: float
    cpu_p50_ms: float
    queries: int
    kilobytes: float


class Stopwatch:
    """What a connection's queries took; an `execute_wrapper`."""

    def __init__(self) -> None:
        self.taken_s, self.queries = 0.0, 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.taken_s += time.perf_counter() - began
            self.queries += 1


def page_time(client: Client, address: str, *, rounds: int, uncounted: int = 2) -> Timed:
    """Ask for an address some times, after some that do not count.

    Raises:
        ValueError: the answer was no page.
    """
    whole, database, processor, watch, reply = [], [], [], Stopwatch(), None
    for number in range(uncounted + rounds):
        watch = Stopwatch()
        began, worked = time.perf_counter(), time.process_time()
        with connection.execute_wrapper(watch):
            reply = client.get(address)
        if number >= uncounted:
            whole.append(1000 * (time.perf_counter() - began))
            database.append(1000 * watch.taken_s)
            processor.append(1000 * (time.process_time() - worked))
        if reply.status_code != 200:
            raise ValueError(f"{address} answered {reply.status_code}: {reply.content[:300]!r}")
    return Timed(
        address=address,
        p50_ms=round(statistics.median(whole), 1),
        p95_ms=percentile(whole, 95),
        sql_p95_ms=percentile(database, 95),
        cpu_p50_ms=round(statistics.median(processor), 1),
        queries=watch.queries,
        kilobytes=round(len(reply.content) / 1000, 1) if reply else 0.0,
    )


def percentile(values: list[float], percent: int) -> float:
    """One decimal of a percentile."""
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 1)
