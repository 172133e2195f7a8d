"""Deletes organisations: at once nobody belongs to them and nothing is answered, then workers clear away step by step.

Every step asks what is left and is done with when nothing is, so that a worker may die anywhere and another goes on.
"""

import time
from datetime import timedelta

from django.db import transaction

from kindling_billing.models import SavedCard
from kindling_platform.accounts.invitations import invitations_end_all
from kindling_platform.accounts.member_letters import deletion_begun_note, deletion_done_note
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.paying import auto_topup_off, cards_detach
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM, Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.jobs import enqueue
from kindling_platform.departures.conditions import standing_check, standing_get
from kindling_platform.departures.steps import STEPS
from kindling_platform.keys.leaving import member_end

SWEEP_JOB = "departures.sweep"
NAME = "Deleted organisation"
# Gateways know a key for a second, and what they have let in may write a moment longer.
SETTLED = timedelta(seconds=5)
# For one organisation in one run; the rest is the next one's.
MOST_S = 30.0


@transaction.atomic
def organisation_delete(
    *, org: Organisation, typed: str, actor: Actor, give_up_cents: int = 0, leaving_user_id: str = ""
) -> None:
    """Delete an organisation for good; `typed` is its slug, as its owner has typed it. Again changes nothing.

    Its members stay as users with organisations of their own, but for `leaving_user_id`, who deletes their account.
    What is left in the wallet stays in the books, where nobody can spend it.

    Raises:
        KindlingError: `confirmation_wrong`, `operator_organisation`, `account_suspended`, `invoice_open`, `debt_open`,
            `dispute_open`, `charge_under_way`, `refund_under_way`, `balance_left`.
    """
    row = Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if typed.strip() != row.slug:
        text = f"Type {row.slug} to confirm that you mean this organisation."
        raise KindlingError("confirmation_wrong", text, param="confirm")
    if row.deleting_at is not None:
        return
    standing = standing_get(org=row)
    standing_check(standing, give_up_cents=give_up_cents)
    # Suspended, too: whatever asks for that alone refuses from now on as well.
    row.deleting_at = row.suspended_at = now()
    row.save(update_fields=["deleting_at", "suspended_at"])
    audit_record(
        actor=actor, action="organisation.delete_begun", target=row.id, organisation_id=row.id,
        data={"slug": row.slug, "given_up_cents": str(standing.paid_left_cents)},
        before={"state": "active"}, after={"state": "deleting"},
    )  # fmt: skip
    auto_topup_off(org=row, actor=actor)
    deletion_begun_note(org=row, by_id=actor.id, moment=row.deleting_at, but=leaving_user_id)
    _members_end(row, actor, leaving_user_id=leaving_user_id)
    enqueue(SWEEP_JOB)


def organisations_clear() -> list[str]:
    """Go on with every organisation that is being deleted; gives the ids of those that are done with."""
    going = Organisation.objects.filter(deleting_at__isnull=False, deleted_at=None)
    # In any order, so that one that cannot be cleared holds no other up for ever.
    return [org.id for org in list(going.order_by("?")) if organisation_clear(org=org)]


def cards_forget_late() -> int:
    """Forget cards that came in behind a deletion, with a payment that was under way; gives how many that were."""
    cards = SavedCard.objects.filter(removed_at=None).values("owner_id")
    late = Organisation.objects.filter(deleted_at__isnull=False, id__in=cards)
    return sum(cards_detach(org=org, actor=SYSTEM) for org in late)


def organisation_clear(*, org: Organisation) -> bool:
    """Clear away what is left of an organisation that is being deleted; whether nothing was, and it is deleted now."""
    if not Organisation.objects.filter(id=org.id, deleting_at__isnull=False).exists():
        return False
    until = time.monotonic() + MOST_S
    while _members_end(org, SYSTEM) + sum(step(org) for step in STEPS):
        if time.monotonic() > until:
            return False
    return _finish(org)


@transaction.atomic
def _finish(org: Organisation) -> bool:
    row = Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if row.deleting_at is None or row.deleted_at is not None or row.deleting_at + SETTLED > now():
        return False
    row.deleted_at, row.name, row.signup_credit_note = now(), NAME, ""
    row.save(update_fields=["deleted_at", "name", "signup_credit_note"])
    audit_record(
        actor=SYSTEM, action="organisation.deleted", target=row.id, organisation_id=row.id,
        before={"state": "deleting"}, after={"state": "deleted"},
    )  # fmt: skip
    deletion_done_note(org=row)
    return True


@transaction.atomic
def _members_end(org: Organisation, actor: Actor, *, leaving_user_id: str = "") -> int:
    """End invitations and memberships, those among them that began while the deletion did; gives their number."""
    ended = invitations_end_all(org=org)
    members = list(Membership.objects.filter(organisation=org).select_related("user", "organisation"))
    for member in members:
        # Keys are for the steps; of each member's own those of the playground end here.
        stays = member.user_id != leaving_user_id
        member_end(org=org, member=member, actor=actor, keep_keys=True, stays=stays)
    return ended + len(members)
