"""The proof of the books: every check that must find nothing, run together and kept with what it found."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from kindling_billing.models import Proof, utc_now
from kindling_billing.notices import notice_add
from kindling_billing.proof_queries import CHECKS

UNSOUND = "books.unsound"
KEPT = timedelta(days=90)
MOST_FINDINGS = 50
Check = Callable[[], list[str]]


def books_prove(*, more: Mapping[str, Check] | None = None) -> Proof:
    """Run every check, and `more` of those above billing; what they find is kept and noted for the operator.

    Findings are sentences; money in them is pico-dollars.
    """
    counts: dict[str, int] = {}
    findings: list[dict[str, str]] = []
    for name, found in [*_found_here(), *((name, check()) for name, check in (more or {}).items())]:
        counts[name] = len(found)
        findings += [{"check": name, "finding": sentence} for sentence in found[:MOST_FINDINGS]]
    proof = Proof.objects.create(checks=counts, findings=findings)
    Proof.objects.filter(run_at__lt=utc_now() - KEPT, findings=[]).delete()
    if findings:
        data = {"findings": len(findings), "first": findings[0]["finding"]}
        notice_add(kind=UNSOUND, key=str(proof.id), data=data)
    return proof


def proof_list(*, limit: int = 50) -> list[Proof]:
    """The last proofs, newest first."""
    return list(Proof.objects.order_by("-id")[:limit])


def proof_find() -> QuerySet[Proof]:
    """Every proof that is kept, newest first."""
    return Proof.objects.order_by("-run_at", "-id")


def _found_here() -> list[tuple[str, list[str]]]:
    return [(name, _ask(sentence, query)) for name, sentence, query in CHECKS]


def _ask(sentence: str, query: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows: Sequence[tuple[Any, ...]] = cursor.fetchmany(MOST_FINDINGS)
    return [sentence.format(*row) for row in rows]
