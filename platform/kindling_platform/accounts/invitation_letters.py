"""The letter that carries an invitation's link."""

import structlog
from django.conf import settings

from kindling_platform.accounts.delivery import letter_deliver
from kindling_platform.accounts.models import Invitation
from kindling_platform.common.kept_mail import kept_folder

log = structlog.get_logger("kindling.accounts")


def invitation_url(text: str) -> str:
    """The link of an invitation's secret."""
    return f"{settings.KINDLING_ENV.public_url}/console/join/{text}/"


def invitation_send(*, invitation: Invitation, text: str) -> bool:
    """Write to whom an invitation is for; gives whether a mail server took the letter, where one is set.

    It is not tried again: whoever invites sees the link at once, and can pass it on or invite anew.
    """
    org, by = invitation.organisation, invitation.invited_by
    body = (
        f"{by.email if by else org.name} invites you to work in {org.name} on Kindling, as {invitation.role}.\n\n"
        f"Accept within seven days, signed in as {invitation.email}: {invitation_url(text)}\n\n"
        "If you expect no such invitation, ignore this letter: nothing happens without you.\n"
    )
    # Names are one line, whatever they were typed as.
    subject = " ".join(f"You are invited to {org.name}".split())
    try:
        taken = letter_deliver(subject=subject, body=body, addresses=[invitation.email]).is_taken
    except OSError as error:
        log.warning("invitation.not_sent", invitation=invitation.id, error=type(error).__name__)
        return False
    # Without one the letter stays in the operator's outbox.
    return taken and kept_folder() is None
