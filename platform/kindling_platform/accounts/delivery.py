"""Hands a letter to the mail server; one that is refused holds no other up."""

from collections.abc import Iterable
from dataclasses import dataclass
from smtplib import SMTPDataError, SMTPRecipientsRefused

from django.core.mail import BadHeaderError, send_mail

# What a server answers with from here on does not change by asking again.
FOR_GOOD = 500


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a letter went; what nobody has taken is refused or may wait. `trouble` tells who did not take it, and why."""

    is_taken: bool = True
    is_refused: bool = False
    trouble: str = ""


def letter_deliver(*, subject: str, body: str, addresses: Iterable[str]) -> Delivery:
    """Send a letter to each address. One that somebody has taken is not sent again, or they would get it twice.

    Raises:
        OSError: the mail server is away, or does not take letters of ours at all.
    """
    taken, codes, troubles = 0, [], []
    for address in addresses:
        try:
            send_mail(subject, body, None, [address])
            taken += 1
        except (SMTPRecipientsRefused, SMTPDataError, BadHeaderError) as error:
            code, said = _answer(error)
            codes.append(code)
            troubles.append(f"{address}: {said}")
    trouble = "; ".join(troubles)
    if taken or not codes:
        return Delivery(trouble=trouble)
    return Delivery(is_taken=False, is_refused=max(codes) >= FOR_GOOD, trouble=trouble)


def _answer(error: SMTPRecipientsRefused | SMTPDataError | BadHeaderError) -> tuple[int, str]:
    """The server's code and words; what cannot be written as a letter counts as refused for good."""
    if isinstance(error, BadHeaderError):
        return FOR_GOOD, str(error)
    if isinstance(error, SMTPDataError):
        code, words = error.smtp_code, error.smtp_error
    else:
        code, words = next(iter(error.recipients.values()), (FOR_GOOD, b"refused"))
    text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
    return int(code), f"{code} {text}"
