"""Whether somebody has just confirmed that it is them, as allauth keeps it with the session, and how they can.

allauth asks nothing of whoever has neither a password nor a second factor. Here they confirm at the provider that they
sign in with, or set a password by mail.
"""

import json
import time
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.account.internal.flows.reauthentication import STATE_SESSION_KEY, resume_request, suspend_request
from allauth.core.exceptions import ReauthenticationRequired
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import urlencode

from kindling_platform.accounts.models import User
from kindling_platform.common.errors import KindlingError

# What a sign-in at a provider is called that confirms somebody who is signed in.
CONFIRM = "confirm"
CONFIRMED_FOR_S: int = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
# When a session was begun, by signing up or in.
SIGNED_IN_AT = "signed_in_at"
PASSWORD, PASSKEY = "reauthenticate", "mfa_reauthenticate:webauthn"
WORDS = {
    PASSWORD: "your password",
    "mfa_reauthenticate": "a code of your app or a recovery code",
    PASSKEY: "a passkey",
}
_confirmed = reauthentication_required(lambda request: True)


def reauthentication_check(request: HttpRequest) -> None:
    """Refuse whoever has not confirmed within the last minutes; for what cannot be undone.

    Raises:
        KindlingError: `reauthentication_required`.
    """
    try:
        _confirmed(request)
    except ReauthenticationRequired as error:
        raise _unconfirmed("Confirm") from error


def is_recent(request: HttpRequest) -> bool:
    """Whether somebody has signed up or in, or confirmed, within the last minutes."""
    if time.time() - request.session.get(SIGNED_IN_AT, 0) < CONFIRMED_FOR_S:
        return True
    try:
        _confirmed(request)
    except ReauthenticationRequired:
        return False
    return True


def recent_check(request: HttpRequest) -> None:
    """Refuse whoever has neither signed in nor confirmed within the last minutes; for keys, money and members.

    Raises:
        KindlingError: `reauthentication_required`.
    """
    if not is_recent(request):
        raise _unconfirmed("Sign in anew, or confirm")


def signed_in(*, request: Any, **_: Any) -> None:
    """Note when a session began."""
    if getattr(request, "session", None) is not None:
        request.session[SIGNED_IN_AT] = time.time()


def confirm_first(request: HttpRequest) -> HttpResponseBase:
    """Where somebody confirms; what they sent is kept meanwhile and taken after that, and lost with the session."""
    if request.method == "POST":
        # It is answered to a whole page then, whatever asked for it; and allauth goes by the path alone.
        for name in [name for name in request.META if name.startswith("HTTP_HX_")]:
            del request.META[name]
        request.META["QUERY_STRING"] = ""
    else:
        # A form that was left before this one must not be taken in its place.
        request.session.pop(STATE_SESSION_KEY, None)
    ways = get_adapter().get_reauthentication_methods(request.user)
    response: HttpResponseBase = suspend_request(request, ways[0]["url"])
    return response


def is_confirmed(request: HttpRequest) -> bool:
    """Whether somebody without a password has confirmed, or come from their provider, within the last minutes."""
    found = get_authentication_records(request, request.user)
    proofs = [one for one in found if one.get("reauthenticated") or one.get("method") == "socialaccount"]
    return any(time.time() - one["at"] < CONFIRMED_FOR_S for one in proofs)


def form_kept_path(request: HttpRequest) -> str:
    """Where the form was sent that waits for a confirmation; empty without one."""
    kept = request.session.get(STATE_SESSION_KEY) or {}
    return str(json.loads(kept["request"])["path"]) if "request" in kept else ""


def way_list(user: Any, ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """allauth's ways to confirm in our words and order, and those of people without a password; the first is asked."""
    known = [way | {"description": WORDS[way["id"]]} for way in ways if way["id"] in WORDS]
    # A passkey is one touch, a code has to be typed.
    known.sort(key=lambda way: (way["id"] != PASSWORD, way["id"] != PASSKEY))
    if user.has_usable_password():
        return known
    linked = set(SocialAccount.objects.filter(user=user).values_list("provider", flat=True))
    known += [
        {
            "id": f"{CONFIRM}:{provider.id}",
            "description": provider.name,
            "url": reverse("account_confirm_with", args=[provider.id]),
        }
        for provider in settings.KINDLING_ENV.identity_providers
        # GitHub cannot be told to ask again.
        if provider.id in linked and provider.issuer
    ]
    mail = {"id": "mail", "description": "a password of yours, set by a link that we mail you"}
    return [*known, mail | {"url": reverse("account_reset_password")}]


def confirmation_take(
    request: HttpRequest, user: User | None, *, where: str, next_url: str
) -> HttpResponseBase:
    """What a provider has said of whoever confirms there; goes on with what they were about to do.

    Raises:
        KindlingError: `identity_of_another`, when it is somebody else.
    """
    if not request.user.is_authenticated or user != request.user:
        text = (
            f"Over there you are somebody else, or not linked. Use the account of {where} that is yours here."
        )
        raise KindlingError("identity_of_another", text, 403)
    record_authentication(request, user, "socialaccount", reauthenticated=True)
    # allauth takes up what was interrupted only on the page that is named here.
    request.GET = QueryDict(urlencode({"next": next_url}))
    resumed: HttpResponseBase | None = resume_request(request)
    return resumed or HttpResponseRedirect(settings.LOGIN_REDIRECT_URL)


def _unconfirmed(how: str) -> KindlingError:
    minutes = CONFIRMED_FOR_S // 60
    text = f"{how} in the console that it is you, at most {minutes} minutes before this. Nothing was done."
    return KindlingError("reauthentication_required", text, 403)
