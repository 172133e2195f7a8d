"""The operator's outbox: letters about money and budgets by state, and those that are kept without a mail server.

A letter of the queue is written anew whenever it is looked at, from its notice; so is one that was sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction

from kindling_billing.models import Notice
from kindling_billing.notices import notice_again, notice_find
from kindling_platform.accounts.letters import HourCost, address_map, letter_of, recipient_map
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.jobs import enqueue
from kindling_platform.common.kept_mail import KeptLetter, kept_find, kept_folder, kept_list
from kindling_platform.deployments.credit import running_hour_picousd
from kindling_platform.keys.alerts import alert_again, alert_find, alert_letter
from kindling_platform.keys.models import BudgetAlert

WAITING, REFUSED, SENT, KEPT = STATES = ("waiting", "refused", "sent", "kept")
NOTICE, BUDGET = "notice", "budget"
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter; `trouble` is why the mail server did not take it, from some or all whom it is for."""

    id: str
    state: str
    kind: str
    organisation_id: str
    to: list[str]
    subject: str
    body: str
    written_at: datetime
    ended_at: datetime | None = None
    trouble: str = ""


def letter_list(*, state: str = "") -> list[Letter]:
    """The newest letters in a state or in any, 200 at most, without their texts."""
    kept = [_from_kept(one) for one in kept_list()] if state in ("", KEPT) else []
    found = _queued(state) + kept
    newest = sorted(found, key=lambda letter: letter.written_at, reverse=True)[:SHOWN]
    return [replace(letter, body="") for letter in newest]


def letter_get(*, letter_id: str) -> Letter:
    """One letter.

    Raises:
        KindlingError: `not_found`.
    """
    kind, _, id_ = letter_id.partition("-")
    found: list[Letter] = []
    if kind == NOTICE and id_.isascii() and id_.isdigit():
        rows = notice_find().filter(id=min(int(id_), 2**63 - 1))
        found = _from_notices(rows, hour_cost=running_hour_picousd)
    elif kind == BUDGET:
        found = _from_alerts(alert_find().filter(id=id_))
    elif kept := kept_find(letter_id=letter_id):
        found = [_from_kept(kept)]
    if not found:
        raise not_found("letter")
    return found[0]


@transaction.atomic
def letter_retry(*, letter_id: str, actor: Actor) -> Letter:
    """Have a letter sent that was refused, or one that waits sooner; a repeat does no harm.

    Raises:
        KindlingError: `not_found`, `letter_ended` for one that was sent or is kept.
    """
    letter = letter_get(letter_id=letter_id)
    if letter.state not in (WAITING, REFUSED):
        raise KindlingError("letter_ended", "This letter does not wait: it was sent, or is kept here.", 409)
    kind, _, id_ = letter_id.partition("-")
    again = notice_again(notice_id=int(id_)) if kind == NOTICE else alert_again(alert_id=id_)
    if again:
        audit_record(
            actor=actor, action="letter.retried", target=letter_id, organisation_id=letter.organisation_id,
            data={"kind": letter.kind, "trouble": letter.trouble},
        )  # fmt: skip
    enqueue("payments.letters" if kind == NOTICE else "limits.alerts")
    return replace(letter, state=WAITING)


def _queued(state: str) -> list[Letter]:
    """What the tables tell of. Without a mail server a letter that went out is kept, and is not told of twice."""
    states = [WAITING, REFUSED, *([] if kept_folder() else [SENT])]
    wanted = [one for one in states if state in ("", one)]
    notices = [row for one in wanted for row in notice_find(state=one)[:SHOWN]]
    alerts = [row for one in wanted for row in alert_find(state=one)[:SHOWN]]
    return _from_notices(notices, hour_cost=lambda _: 0) + _from_alerts(alerts)


def _from_notices(rows: Iterable[Notice], *, hour_cost: HourCost) -> list[Letter]:
    notices = list(rows)
    owner_ids = {notice.owner_id for notice in notices}
    orgs, recipients = organisation_map(organisation_ids=owner_ids), recipient_map(notices)
    letters = []
    for notice in notices:
        written = letter_of(notice, orgs.get(notice.owner_id), hour_cost=hour_cost)
        if written is None:
            continue
        state = SENT if notice.done_at else REFUSED if notice.refused_at else WAITING
        letters.append(
            Letter(
                f"{NOTICE}-{notice.id}", state, notice.kind, notice.owner_id, recipients[notice.id],
                *written, notice.created_at, notice.done_at or notice.refused_at, notice.trouble,
            )
        )  # fmt: skip
    return letters


def _from_alerts(rows: Iterable[BudgetAlert]) -> list[Letter]:
    alerts = list(rows)
    addresses = address_map(organisation_ids={alert.organisation_id for alert in alerts})
    return [
        Letter(
            f"{BUDGET}-{alert.id}",
            SENT if alert.sent_at else REFUSED if alert.refused_at else WAITING,
            "budget.reached", alert.organisation_id, addresses.get(alert.organisation_id, []),
            *alert_letter(alert), alert.created_at, alert.sent_at or alert.refused_at, alert.trouble,
        )
        for alert in alerts
    ]  # fmt: skip


def _from_kept(kept: KeptLetter) -> Letter:
    return Letter(kept.id, KEPT, "", "", [kept.to], kept.subject, kept.body, kept.written_at)
