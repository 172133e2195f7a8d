"""Who is in the organisation, as what, what their keys have spent, and who is invited."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, is_fragment, private, refused, show
from kindling_console.forms.team import ROLES, InviteForm, RemoveForm, RoleForm
from kindling_console.meters import meters_of, rates_of
from kindling_console.sure import sure_recently
from kindling_platform.accounts.invitation_letters import invitation_send, invitation_url
from kindling_platform.accounts.invitations import invitation_create, invitation_list, invitation_withdraw
from kindling_platform.accounts.second_factors import factor_holders
from kindling_platform.accounts.team import member_get, member_role_set, owner_check, roles_given
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.leaving import key_list_live_of, member_remove
from kindling_platform.usage.bounds import bounds_get

SHOWN, KEYS_SHOWN = 500, 10
FORM, MADE = "console/parts/invite_form.html", "console/parts/invitation_made.html"


@page("team.read", write="team.write", methods=("GET", "POST"))
def team(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everybody, oldest first, and a form to invite somebody."""
    form = InviteForm(request.POST or None, roles=_roles(visitor), initial={"role": "developer"})
    if request.method == "POST" and form.is_valid() and (answer := _invite(request, visitor, form)):
        return answer
    status = 422 if form.is_bound else 200
    return show(request, "console/team.html", _context(visitor, form), part=FORM, status=status)


@page("team.write", methods=("POST",))
def invitation_withdrawn(request: HttpRequest, visitor: Visitor, invitation_id: str) -> HttpResponse:
    """Make a link worthless."""
    invitation_withdraw(org=visitor.org, invitation_id=invitation_id, actor=visitor.actor)
    return done(
        request, reverse("console:team"), "The invitation is withdrawn. Its link does not hold any more."
    )


@page("team.write", methods=("GET", "POST"))
def member(request: HttpRequest, visitor: Visitor, user_id: str) -> HttpResponse:
    """A member's role, and the way out."""
    found = member_get(org=visitor.org, user_id=user_id)
    form = RoleForm(request.POST or None, roles=_roles(visitor, found.role), initial={"role": found.role})
    if request.method == "POST" and form.is_valid():
        sure_recently(request)
        try:
            role = form.cleaned_data["role"]
            member_role_set(
                org=visitor.org, user_id=user_id, role=role, actor=visitor.actor, may_own=visitor.is_owner
            )
        except KindlingError as error:
            form.add_error("role", error.message)
        else:
            return done(request, reverse("console:team"), f"{found.user.email} is {role} from now on.")
    context = _leaving(visitor, found) | {"form": form}
    return show(request, "console/member.html", context, status=422 if form.is_bound else 200)


@page("team.write", methods=("POST",))
def member_removed(request: HttpRequest, visitor: Visitor, user_id: str) -> HttpResponse:
    """Remove somebody at once."""
    found = member_get(org=visitor.org, user_id=user_id)
    back = reverse("console:member", args=[user_id])
    return _remove(request, visitor, found, back=back, then=reverse("console:team"))


@page(methods=("GET", "POST"), without_factor=True)
def leave(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everybody may go."""
    if request.method == "POST":
        then = reverse("console:home")
        return _remove(request, visitor, visitor.membership, back=reverse("console:leave"), then=then)
    return show(request, "console/leave.html", _leaving(visitor, visitor.membership))


def _invite(request: HttpRequest, visitor: Visitor, form: InviteForm) -> HttpResponse | None:
    """The link, shown once; None when the form was refused, which it says itself."""
    # Whoever finds a browser open must not come in for good.
    sure_recently(request)
    try:
        made, text = invitation_create(
            org=visitor.org, actor=visitor.actor, may_own=visitor.is_owner, **form.cleaned_data
        )
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return None
    context = {
        "invitation": made,
        "url": invitation_url(text),
        "was_sent": invitation_send(invitation=made, text=text),
        "in_dialog": is_fragment(request),
    }
    return private(show(request, "console/invitation_made.html", context, part=MADE))


def _remove(request: HttpRequest, visitor: Visitor, member: Any, *, back: str, then: str) -> HttpResponse:
    form = RemoveForm(request.POST)
    is_self = member.user_id == visitor.user.id
    try:
        revoked = member_remove(
            org=visitor.org,
            user_id=member.user_id,
            actor=visitor.actor,
            keep_keys=form.is_valid() and form.cleaned_data["keys"] == "keep",
            may_own=visitor.is_owner or is_self,
        )
    except KindlingError as error:
        return refused(request, back, error)
    who = "You have" if is_self else f"{member.user.email} has"
    said = f", and {revoked} API key{'' if revoked == 1 else 's'} with them" if revoked else ""
    return done(request, then, f"{who} left {visitor.org.name}{said}.")


def _context(visitor: Visitor, form: InviteForm) -> dict[str, Any]:
    members = bounds_get(org=visitor.org, moment=now()).members
    rows = [
        (bound.membership, meters_of(bound.limits, bound.spent)[1], rates_of(bound.limits))
        for bound in members[:SHOWN]
    ]
    may_write = visitor.may("team.write")
    people = [bound.membership.user_id for bound in members] if may_write else []
    holders = factor_holders(people) if people else frozenset()
    return {
        "rows": rows,
        "more": len(members[SHOWN:]),
        "may_write": may_write,
        "holders": holders,
        "lacking": len(people) - len(holders),
        "has_factor": visitor.user.id in holders,
        "form": form,
        "roles": ROLES,
        "invitations": list(invitation_list(org=visitor.org)[:SHOWN]) if may_write else [],
        "moment": now(),
    }


def _leaving(visitor: Visitor, member: Any) -> dict[str, Any]:
    keys = list(key_list_live_of(org=visitor.org, user_id=member.user_id)[: KEYS_SHOWN + 1])
    return {
        "member": member,
        "keys": keys[:KEYS_SHOWN],
        "more_keys": len(keys) > KEYS_SHOWN,
        "is_self": member.user_id == visitor.user.id,
        "stays": _stays(visitor, member),
    }


def _stays(visitor: Visitor, member: Any) -> str:
    """Why a member cannot go, or be removed by this visitor; empty when they can."""
    try:
        owner_check(member, may_own=visitor.is_owner or member.user_id == visitor.user.id)
    except KindlingError as error:
        return error.message
    return ""


def _roles(visitor: Visitor, *others: str) -> list[str]:
    """The roles that the visitor may give, and others that stand there already."""
    given = roles_given(org=visitor.org, may_own=visitor.is_owner)
    return [role for role in ROLES if role in given or role in others]
