"""Letters about money: to those who look after an organisation's bills, and to the operator when books differ."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.mail import send_mail

from kindling_billing.models import Notice
from kindling_billing.money import cents_to_pico, pico_to_usd_text
from kindling_billing.notices import notice_done, notice_list_waiting
from kindling_platform.accounts.models import Membership, Organisation

BILL_ROLES = ("owner", "admin", "billing")
Text = tuple[str, str]


def letters_send(*, limit: int = 100) -> int:
    """Send what waits; a kill between the letter and its mark sends it twice at most. Gives how many notices ended.

    Raises:
        OSError: the mail server is away; what was not sent waits.
    """
    ended = 0
    for notice in notice_list_waiting(limit=limit):
        org = Organisation.objects.filter(id=notice.owner_id).first() if notice.owner_id else None
        written = letter_of(notice, org)
        if written is not None:
            subject, body = written
            for address in _addresses(org):
                send_mail(subject, body, None, [address])
        ended += notice_done(notice_id=notice.id)
    return ended


def letter_of(notice: Notice, org: Organisation | None) -> Text | None:
    """Subject and text of a notice; None for what needs no letter."""
    if notice.owner_id and org is None:
        return None
    write = LETTERS.get(notice.kind)
    return write(notice.data, org.name if org else "Kindling") if write else None


def _addresses(org: Organisation | None) -> list[str]:
    rows = Membership.objects.filter(role__in=BILL_ROLES)
    rows = rows.filter(organisation=org) if org else rows.filter(organisation__is_operator=True)
    return list(rows.order_by("id").values_list("user__email", flat=True))


def _low(data: dict[str, Any], name: str) -> Text:
    left = pico_to_usd_text(int(data["balance_picousd"]), 2)
    return (
        f"{name} has ${left} of credit left",
        f"The balance of {name} is ${left}. At zero, new requests are refused.\n\n"
        f"Add credit, or let it be topped up automatically: {_billing()}\n",
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
}
