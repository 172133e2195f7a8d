"""Letters about money: to those who look after an organisation's bills, and to the operator when books differ.

Those to some people in person (`member_letters`) wait and go with them.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Q

from kindling_billing.models import Notice
from kindling_billing.money import cents_to_pico, pico_to_usd_text
from kindling_billing.notices import LOW_BALANCE, notice_done, notice_list_waiting, notice_not_taken
from kindling_platform.accounts.delivery import letter_deliver
from kindling_platform.accounts.member_letters import MEMBER_LETTERS, person_map
from kindling_platform.accounts.models import Membership, Organisation

BILL_ROLES = ("owner", "admin", "billing")
Text = tuple[str, str]
# What an hour of an organisation's running deployments costs, in pico-dollars; told by whoever knows deployments.
HourCost = Callable[[Organisation], int]


def letters_send(*, hour_cost: HourCost, limit: int = 100) -> int:
    """Send what waits; a kill between the letter and its mark sends it twice at most. Gives how many notices ended.

    Raises:
        OSError: the mail server is away; what was not sent waits.
    """
    return sum(_send(notice, hour_cost) for notice in notice_list_waiting(limit=limit))


def letter_of(notice: Notice, org: Organisation | None, *, hour_cost: HourCost) -> Text | None:
    """Subject and text of a notice; None for what needs no letter."""
    if notice.owner_id and org is None:
        return None
    write = LETTERS.get(notice.kind)
    if write is None:
        return None
    known = {"hour_picousd": hour_cost(org)} if org and notice.kind == LOW_BALANCE else {}
    return write(notice.data | known, org.name if org else "Kindling")


def address_map(*, organisation_ids: Collection[str]) -> dict[str, list[str]]:
    """To whom letters about the money of some organisations go; "" stands for the operator's own people."""
    wanted = Q(organisation_id__in=[one for one in organisation_ids if one])
    wanted = wanted | Q(organisation__is_operator=True) if "" in organisation_ids else wanted
    rows = Membership.objects.filter(wanted, role__in=BILL_ROLES).order_by("id")
    found: dict[str, list[str]] = {}
    for id_, is_operator, email in rows.values_list(
        "organisation_id", "organisation__is_operator", "user__email"
    ):
        found.setdefault(id_, []).append(email)
        if is_operator:
            found.setdefault("", []).append(email)
    return found


def recipient_map(notices: Sequence[Notice]) -> dict[int, list[str]]:
    """To whom each of some notices goes, by notice."""
    people, bills = person_map(notices), address_map(organisation_ids={one.owner_id for one in notices})
    return {one.id: people.get(one.id, bills.get(one.owner_id, [])) for one in notices}


def _send(notice: Notice, hour_cost: HourCost) -> bool:
    """Whether the notice has ended: sent, refused, or in need of no letter."""
    org = Organisation.objects.filter(id=notice.owner_id).first() if notice.owner_id else None
    written = letter_of(notice, org, hour_cost=hour_cost)
    if written is None:
        return notice_done(notice_id=notice.id)
    addresses = recipient_map([notice])[notice.id]
    went = letter_deliver(subject=written[0], body=written[1], addresses=addresses)
    if went.is_taken:
        return notice_done(notice_id=notice.id, trouble=went.trouble)
    noted = notice_not_taken(notice_id=notice.id, trouble=went.trouble, is_final=went.is_refused)
    return noted and went.is_refused


def _low(data: dict[str, Any], name: str) -> Text:
    left = pico_to_usd_text(int(data["balance_picousd"]), 2)
    return (
        f"{name} has ${left} of credit left",
        f"The balance of {name} is ${left}. At zero, new requests are refused{_and_stops(data)}.\n\n"
        f"Add credit, or let it be topped up automatically: {_billing()}\n",
    )


def _and_stops(data: dict[str, Any]) -> str:
    if not data["hour_picousd"]:
        return ""
    cost = pico_to_usd_text(data["hour_picousd"], 2)
    return (
        f", and your own deployments, which cost ${cost} an hour as they run now, are stopped."
        " They start again only by hand"
    )


def _paused(data: dict[str, Any], name: str) -> Text:
    return (
        f"Automatic top-up of {name} is paused",
        f"Your card was not charged: {data.get('reason', '')}\n\n"
        f"Nothing will be charged until you switch automatic top-up on again. Add credit here: {_billing()}\n",
    )


def _invoice(data: dict[str, Any], name: str) -> Text:
    return (
        f"Invoice {data['number']} of {name}",
        f"Invoice {data['number']} is ready: {_billing()}#invoices\n",
    )


def _owed(data: dict[str, Any], name: str, *, last: bool = False) -> Text:
    text = pico_to_usd_text(cents_to_pico(int(data["open_cents"])), 2)
    end = "Inference has stopped until it is paid." if last else "Inference stops when it stays unpaid."
    return (
        f"Invoice {data['number']} of {name} is {'overdue' if last else 'due'}",
        f"${text} of invoice {data['number']} are open. {end}\n\nPay here: {_billing()}#invoices\n",
    )


def _suspended(data: dict[str, Any], name: str) -> Text:
    return (
        f"Inference of {name} has stopped",
        f"{data.get('reason', '')}\n\nThe console, your files and your usage stay as they are: {_billing()}\n",
    )


def _resumed(_data: dict[str, Any], name: str) -> Text:
    return f"Inference of {name} goes on", f"{name} can call models again.\n"


def _halted(data: dict[str, Any], name: str) -> Text:
    return (
        f"Deployment {data['deployment']} of {name} has stopped",
        f"{data['reason']}\n\nIts replicas end and cost nothing more. It starts again only by hand:"
        f" {settings.KINDLING_ENV.public_url}/console/deployments/\n\nCredit and invoices: {_billing()}\n",
    )


def _operator(data: dict[str, Any], _name: str) -> Text:
    text = str(data.get("finding") or data.get("reason") or data)
    address = f"{settings.KINDLING_ENV.public_url}/console/operator/payments/"
    return "Payments need a look", f"{text}\n\n{address}\n"


def _billing() -> str:
    return f"{settings.KINDLING_ENV.public_url}/console/billing/"


LETTERS: dict[str, Callable[[dict[str, Any], str], Text]] = {
    "balance.low": _low,
    "topup.paused": _paused,
    "invoice.issued": _invoice,
    "invoice.due": _owed,
    "invoice.overdue": _owed,
    "invoice.last_call": lambda data, name: _owed(data, name, last=True),
    "owner.suspended": _suspended,
    "owner.resumed": _resumed,
    "deployment.halted": _halted,
    "books.unsound": _operator,
    "provider.trouble": _operator,
    "provider.event_parked": _operator,
    "provider.books_differ": _operator,
    **MEMBER_LETTERS,
}
