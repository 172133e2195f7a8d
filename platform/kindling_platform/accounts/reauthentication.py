"""Whether somebody has just confirmed that it is them, as allauth keeps it with the session."""

from allauth.account.decorators import reauthentication_required
from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest

from kindling_platform.common.errors import KindlingError

_confirmed = reauthentication_required(lambda request: True)


def reauthentication_check(request: HttpRequest) -> None:
    """Refuse whoever has not confirmed within the last minutes.

    Raises:
        KindlingError: `reauthentication_required`.
    """
    try:
        _confirmed(request)
    except ReauthenticationRequired as error:
        text = "Confirm in the console that it is you, at most five minutes before this. Nothing was done."
        raise KindlingError("reauthentication_required", text, 403) from error
