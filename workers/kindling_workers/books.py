"""What keeps the books by itself: credit expires, months become invoices, unpaid ones are chased, everything is proved.

Each step is a transaction that is safe to run twice; what one owner's books refuse does not hold up the others.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from kindling_billing.clocks import clocks_agree, clocks_apart
from kindling_billing.collecting import dunning_run
from kindling_billing.credits import grants_expire
from kindling_billing.errors import BillingError
from kindling_billing.invoicing import GRACE, invoice_draft, invoice_finalise, month_list_due
from kindling_billing.models import Proof
from kindling_platform.common.clock import now
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.usage.rerating import rerating_list_open, rerating_step
from kindling_workers.complaints import complaints
from kindling_workers.jumps import jump, ledger_age

log = structlog.get_logger("kindling.workers")
MAX_INVOICES = 500
MAX_STEPS = 20


@dataclass(slots=True)
class Invoiced:
    """What one run made."""

    final: int = 0
    drafts: int = 0
    refused: int = 0


def deadlines_hold() -> bool:
    """Whether deadlines may be acted on; a clock that is wrong is complained of and nothing is done."""
    if not clocks_agree():
        trouble = f"this clock is {clocks_apart()} ahead of the database's: deadlines wait"
    elif jump.is_doubted():
        trouble = f"this clock is {ledger_age().days} days ahead of the ledger: deadlines wait a while for it"
    else:
        complaints.content("books.clock")
        return True
    complaints.complain("books.clock", trouble)
    return False


def credit_expire() -> int:
    """End the credit that is due."""
    return grants_expire()


def invoices_make(*, moment: datetime | None = None) -> Invoiced:
    """Make ended months' invoices final once their grace is over, and keep drafts of the others."""
    moment = moment or now()
    due = set(month_list_due(now=moment))
    done = Invoiced()
    for owner_id, month in month_list_due(now=moment + GRACE)[:MAX_INVOICES]:
        subject = f"books.invoice {owner_id}"
        try:
            if (owner_id, month) in due:
                invoice_finalise(owner_id=owner_id, month=month, now=moment)
                done.final += 1
            else:
                invoice_draft(owner_id=owner_id, month=month)
                done.drafts += 1
        except BillingError as error:
            done.refused += 1
            complaints.complain(subject, f"{error.code}: {error.message}")
        else:
            complaints.content(subject)
    return done


def unpaid_chase() -> int:
    """Remind of invoices that are due, and stop inference at the last step."""
    return dunning_run()


def books_check() -> Proof:
    """Prove the books; what does not hold is an error in the log and a notice to the operator."""
    proof = platform_prove()
    if not proof.sound:
        log.error("books.unsound", findings=len(proof.findings), first=proof.findings[0])
    return proof


def rerating_run() -> int:
    """Go on with the oldest open run for a bounded number of steps; gives how many were taken."""
    for run_id in rerating_list_open()[:1]:
        for step in range(1, MAX_STEPS + 1):
            if not rerating_step(run_id=run_id):
                return step
        return MAX_STEPS
    return 0
