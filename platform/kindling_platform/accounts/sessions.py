"""Ends the sessions of a user, those that are not on allauth's list among them."""

from collections.abc import Iterable
from typing import Any

from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session

from kindling_platform.common.clock import now


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter; it also ends sessions that began before allauth kept a list."""

    def end_sessions(self, sessions: Iterable[Any]) -> None:
        """End the given sessions, and all others of the visitor but the present one.

        allauth asks for this only when all others are to end. Whose a session is stands inside it alone, so every
        one is read: too much for a page, not for something that is done once in a while.
        """
        super().end_sessions(sessions)
        sessions_end(user_id=self.request.user.pk, but_key=self.request.session.session_key)


def sessions_end(*, user_id: str, but_key: str | None = "") -> None:
    """End every session of a user but one, wherever it was begun; every session there is, is read for that."""
    others = Session.objects.filter(expire_date__gt=now()).exclude(session_key=but_key)
    keys = [
        other.session_key for other in others.iterator() if other.get_decoded().get(SESSION_KEY) == user_id
    ]
    Session.objects.filter(session_key__in=keys).delete()
