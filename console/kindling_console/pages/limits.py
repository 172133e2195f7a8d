"""Limits on one page: of the organisation, its members and its keys, each with what is spent of it so far.

An organisation's rates are the operator's to set, on a page of theirs.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, is_fragment, show
from kindling_console.forms.limits import LimitsForm
from kindling_console.meters import LimitRow, meters_of, rates_of
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.budgets import budget_spent_get
from kindling_platform.keys.limits import limits_are_raised, limits_get, limits_set
from kindling_platform.usage.bounds import (
    KeyBound,
    MemberBound,
    bounds_get,
    key_bound_get,
    member_bound_get,
)

EDIT = "console/limits_edit.html"
EDIT_ROW = "console/parts/limit_edit.html"
ROW = "console/parts/limit_row.html"
OWN = "console/parts/limits_own.html"
SHOWN = 200
HOLDS = "The limits of {} hold within a second."


@page("billing.read", write="billing.write", methods=("GET", "POST"))
def limits(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """All of them, and a form for the organisation's own budgets."""
    found = limits_get(org=visitor.org)
    form, is_saved = LimitsForm(request.POST or None, limits=found, rates=False), False
    if form.is_bound and _saved(request, form, visitor):
        if not is_fragment(request):
            return done(request, reverse("console:limits"), HOLDS.format(visitor.org.name))
        found, is_saved = limits_get(org=visitor.org), True
        form = LimitsForm(limits=found, rates=False)
    spent = budget_spent_get(limits=found, moment=now(), version=0)
    context = {
        "form": form,
        "meters": meters_of(found, spent),
        "rates": rates_of(found),
        "may_write": visitor.may("billing.write"),
        "is_saved": is_saved,
    }
    if not is_fragment(request):
        context |= _everybody(visitor)
    status = 422 if form.is_bound else 200
    return show(request, "console/limits.html", context, part=OWN, status=status)


@page("team.write", methods=("GET", "POST"))
def member_limits(request: HttpRequest, visitor: Visitor, user_id: str) -> HttpResponse:
    """What a member may do over all keys that the member has made."""
    bound = member_bound_get(org=visitor.org, user_id=user_id, moment=now())
    form = LimitsForm(request.POST or None, limits=bound.limits)
    if form.is_bound and _saved(request, form, visitor, member_id=user_id):
        bound = member_bound_get(org=visitor.org, user_id=user_id, moment=now())
        return _kept(request, _member_row(bound, visitor, is_saved=True))
    return _edit(request, form, _member_row(bound, visitor))


@page("keys.write", methods=("GET", "POST"))
def key_limits(request: HttpRequest, visitor: Visitor, key_id: str) -> HttpResponse:
    """What a key and its successors may do."""
    bound = key_bound_get(org=visitor.org, key_id=key_id, moment=now())
    form = LimitsForm(request.POST or None, limits=bound.limits)
    if form.is_bound and _saved(request, form, visitor, key_id=key_id):
        bound = key_bound_get(org=visitor.org, key_id=key_id, moment=now())
        return _kept(request, _key_row(bound, visitor, is_saved=True))
    return _edit(request, form, _key_row(bound, visitor))


@page("operator", methods=("GET", "POST"))
def organisation_limits(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """What an organisation may do; what is left open has the installation's defaults."""
    org = organisation_get(organisation_id=organisation_id)
    form = LimitsForm(request.POST or None, limits=limits_get(org=org))
    back = reverse("console:operator-organisation", args=[org.id])
    if form.is_bound and _saved(request, form, visitor, org=org):
        return done(request, back, HOLDS.format(org.name))
    context = {
        "form": form,
        "title": f"Limits of {org.name}",
        "back": back,
        "place": org.name,
        "defaults": True,
    }
    return show(request, EDIT, context, status=422 if form.is_bound else 200)


def _everybody(visitor: Visitor) -> dict[str, object]:
    """The rows of the members and of the keys, for those who may see them."""
    may_members, may_keys = visitor.may("team.read"), visitor.may("keys.read")
    if not (may_members or may_keys):
        return {}
    bounds = bounds_get(org=visitor.org, moment=now())
    return {
        "may_members": may_members,
        "may_keys": may_keys,
        "member_rows": [_member_row(row, visitor) for row in bounds.members[:SHOWN] if may_members],
        "key_rows": [_key_row(row, visitor) for row in bounds.keys[:SHOWN] if may_keys],
        "more_keys": max(len(bounds.keys) - SHOWN, 0),
        "more_members": max(len(bounds.members) - SHOWN, 0),
    }


def _saved(
    request: HttpRequest,
    form: LimitsForm,
    visitor: Visitor,
    *,
    org: Any = None,
    member_id: str = "",
    key_id: str = "",
) -> bool:
    """Whether what was typed holds now; what speaks against it stands beside its field. Less is taken at once.

    Raises:
        ReauthenticationRequired: it allows more, and the visitor confirms first.
    """
    if not form.is_valid():
        return False
    had = limits_get(org=org or visitor.org, member_id=member_id, key_id=key_id)
    if limits_are_raised(had, form.values):
        sure_recently(request)
    try:
        limits_set(
            org=org or visitor.org,
            values=form.values,
            alert_percents=form.percents,
            actor=visitor.actor,
            member_id=member_id,
            key_id=key_id,
            by_operator=org is not None,
        )
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return False
    return True


def _kept(request: HttpRequest, row: LimitRow) -> HttpResponse:
    if is_fragment(request):
        return show(request, ROW, {"row": row})
    return done(request, reverse("console:limits"), HOLDS.format(f"“{row.name}”"))


def _edit(request: HttpRequest, form: LimitsForm, row: LimitRow) -> HttpResponse:
    if is_fragment(request) and "row" in request.GET and not form.is_bound:
        return show(request, ROW, {"row": row, "is_shut": True})
    context = {
        "form": form,
        "row": row,
        "title": f"Limits of “{row.name}”",
        "back": reverse("console:limits"),
        "place": "Limits",
    }
    return show(request, EDIT, context, part=EDIT_ROW, status=422 if form.is_bound else 200)


def _member_row(bound: MemberBound, visitor: Visitor, *, is_saved: bool = False) -> LimitRow:
    member, may_write = bound.membership, visitor.may("team.write")
    return LimitRow(
        id=f"limits-{member.user_id}",
        name=member.user.email,
        note=member.get_role_display(),
        meters=meters_of(bound.limits, bound.spent),
        rates=rates_of(bound.limits),
        edit_url=reverse("console:member-limits", args=[member.user_id]) if may_write else "",
        is_saved=is_saved,
    )


def _key_row(bound: KeyBound, visitor: Visitor, *, is_saved: bool = False) -> LimitRow:
    key, may_write = bound.key, visitor.may("keys.write")
    return LimitRow(
        id=f"limits-{key.id}",
        name=key.name,
        note=f"{key.prefix}…{key.last4}",
        meters=meters_of(bound.limits, bound.spent),
        rates=rates_of(bound.limits),
        edit_url=reverse("console:key-limits", args=[key.id]) if may_write else "",
        is_saved=is_saved,
    )
