"""Who looks at a page, for which organisation, and whether they may."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

from allauth.core.exceptions import ReauthenticationRequired
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_console.page_org import page_org_changed, page_org_refusal
from kindling_console.second_factor import factor_first
from kindling_console.sure import sure_first
from kindling_console.ways_back import form_page, local_path, method_refused, shows_page
from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.roles import can
from kindling_platform.accounts.second_factors import factor_is_missing
from kindling_platform.accounts.seeing import HIDDEN, seeing_find
from kindling_platform.accounts.selectors import (
    CHOSEN_ORGANISATION,
    membership_chosen,
    membership_list_for_user,
)
from kindling_platform.accounts.team import OWNER
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.origin import origin_actor_set
from kindling_platform.common.requests import client_ip

P = ParamSpec("P")
# What a signed-in page may do that needs no right of its own.
ANY_MEMBER = ""
NOT_TAKEN = (
    "Nothing was saved: you were signed out when you sent the form. "
    "Sign in to come back to its page, then enter it once more."
)


class Suspended(PermissionDenied):
    """The operator has suspended the organisation: its people look at everything and change nothing."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in person at work for one organisation; `others` are those that they may change to."""

    user: Any
    org: Any
    membership: Any
    ip: str | None
    others: tuple[Any, ...] = ()
    # Whether the organisation asks for a second factor that the visitor has not.
    is_barred: bool = False
    # While one of the operator's people sees the console as this visitor: until when, and who.
    seeing: Any = None

    def may(self, action: str) -> bool:
        """Whether the visitor's role allows an action, and nothing of what is hidden from those who only look.

        Whoever lacks the second factor that the organisation asks for may do nothing in it.
        """
        if self.is_barred:
            return False
        if self.seeing is not None and action in HIDDEN:
            return False
        return can(self.membership, action)

    @property
    def is_owner(self) -> bool:
        """Whether the visitor owns the organisation, and may make others owners."""
        return bool(self.membership.role == OWNER)

    @property
    def is_operator(self) -> bool:
        """Whether the visitor runs this installation."""
        return self.may("operator")

    @property
    def actor(self) -> Actor:
        """The visitor as the audit names them; who only looks is named as themselves."""
        if self.seeing is not None:
            return user_actor(self.seeing.operator, ip=self.ip)
        return Actor(id=self.user.id, label=self.user.email, ip=self.ip)


View = Callable[Concatenate[HttpRequest, Visitor, P], HttpResponseBase]
Guarded = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def visitor_of(request: HttpRequest) -> Visitor | None:
    """The visitor of a request, looked up once; None when nobody is signed in or has no organisation."""
    if not hasattr(request, "kindling_visitor"):
        visitor = request.kindling_visitor = _visitor(request)  # type: ignore[attr-defined]
        if visitor is not None:
            origin_actor_set(visitor.actor)
    found: Visitor | None = request.kindling_visitor  # type: ignore[attr-defined]
    return found


def page(
    action: str = ANY_MEMBER,
    *,
    write: str | None = None,
    methods: tuple[str, ...] = ("GET",),
    of_any_org: bool = False,
    without_factor: bool = False,
) -> Callable[[View[P]], Guarded[P]]:
    """Guard a view: signed in, a member, allowed to do `action`, and to do `write` when it is a POST.

    A page that shows another organisation than the present one is refused with 409, unless what it asks for is
    `of_any_org`. A refusal by role is 403, and so is a change while the organisation is suspended; an object of
    somebody else is 404 like one that does not exist. A form's address that is opened leads to the page of the form.

    Whoever lacks the second factor that the organisation asks for is led to adding one, unless the page is of no
    organisation or open `without_factor`.
    """
    allowed = {*methods, "HEAD"} if "GET" in methods else set(methods)

    def guard(view: View[P]) -> Guarded[P]:
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.method not in allowed:
                return method_refused(request, allowed)
            if "\x00" in request.path:
                raise Http404("No address has such a letter, and no database takes it.")
            visitor = visitor_of(request)
            if visitor is None:
                return sign_in_first(request)
            if not of_any_org and (
                changed := page_org_changed(request, org=visitor.org, others=visitor.others)
            ):
                return page_org_refusal(request, changed)
            if visitor.is_barred and not (of_any_org or without_factor):
                return factor_first(request)
            needed = write if write and request.method == "POST" else action
            if needed and not visitor.may(needed):
                raise PermissionDenied(needed)
            if (
                request.method == "POST"
                and needed.endswith(".write")
                and visitor.org.suspended_at is not None
            ):
                raise Suspended(needed)
            try:
                return view(request, visitor, *args, **kwargs)
            except ReauthenticationRequired:
                return sure_first(request)
            except KindlingError as error:
                if error.status == 404:
                    raise Http404(error.message) from error
                raise

        functools.update_wrapper(guarded, view)
        return shows_page(guarded) if "GET" in allowed else guarded

    return guard


def sign_in_first(request: HttpRequest) -> HttpResponseBase:
    """Lead to the sign-in page and back again; a fragment makes the whole page go there.

    A form's own address may show nothing, so behind a form the way back is the page that holds it.
    """
    is_form = request.method == "POST"
    target = form_page(request) if is_form else request.get_full_path()
    if is_form:
        messages.error(request, NOT_TAKEN)
    if request.headers.get("HX-Request") == "true":
        response = HttpResponse(status=204)
        here = local_path(request.headers.get("HX-Current-URL", ""))
        response["HX-Redirect"] = redirect_to_login(here or target)["Location"]
        return response
    return redirect_to_login(target)


def _visitor(request: HttpRequest) -> Visitor | None:
    if not request.user.is_authenticated:
        return None
    if seen := seeing_find(session=request.session, user_id=request.user.pk):
        member = seen.membership
        return Visitor(member.user, member.organisation, member, client_ip(request), seeing=seen.row)
    memberships = membership_list_for_user(user=request.user)
    try:
        chosen = membership_chosen(memberships, request.session.get(CHOSEN_ORGANISATION))
    except KindlingError:
        return None
    org, others = chosen.organisation, tuple(one.organisation for one in memberships if one is not chosen)
    is_barred = factor_is_missing(org=org, user=request.user)
    return Visitor(request.user, org, chosen, client_ip(request), others, is_barred=is_barred)
