"""Conversations that members of an organisation share with each other: a list, each by its link, and taking back."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, private, refused, show
from kindling_console.playground_shares import conversation_numbered, lanes_told
from kindling_console.ways_back import form_page
from kindling_platform.accounts.selectors import member_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.responses.conversations import Conversation
from kindling_platform.responses.selectors import keeping_days
from kindling_platform.responses.sharing import (
    conversation_revoke,
    conversation_share,
    conversation_shared_open,
    shared_get,
    shared_list,
    shared_title,
)

ORDER = ("created_at", "id")
GONE = "Former member"


@page("playground.use", write="conversations.write", methods=("GET", "POST"))
def shared(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What is shared now, newest first; a post shares one more and leads to it."""
    if request.method == "POST":
        return _share(request, visitor)
    rows = shared_list(org=visitor.org)
    try:
        found = page_get(rows, order=ORDER, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=ORDER)
    people = _people(visitor)
    context = {
        "shares": [
            {
                "row": row,
                "title": shared_title(row),
                "maker": people.get(row.made_by_id or "", GONE),
                "may_revoke": _may_revoke(visitor, row),
            }
            for row in found.rows
        ],
        "next": found.next_cursor,
        "days": keeping_days(org=visitor.org),
    }
    return private(show(request, "console/shared.html", context))


@page("playground.use")
def shared_conversation(request: HttpRequest, visitor: Visitor, share_id: str) -> HttpResponse:
    """One conversation to read, and to go on with as a copy."""
    row = shared_get(org=visitor.org, share_id=share_id)
    context: dict[str, Any] = {
        "row": row,
        "maker": _people(visitor).get(row.made_by_id or "", GONE),
        "may_revoke": _may_revoke(visitor, row),
        "link": f"{settings.KINDLING_ENV.public_url}{reverse('console:shared-conversation', args=[row.id])}",
    }
    try:
        found = conversation_shared_open(org=visitor.org, share_id=share_id)
    except KindlingError as error:
        if error.status == 404:
            raise
        context["error"] = error.message
    else:
        conversation = found.conversation
        names = conversation.params.__struct_fields__
        values = [(name.replace("_", " "), getattr(conversation.params, name)) for name in names]
        context |= {
            "title": found.title,
            "conversation": conversation,
            "params": [(name, value) for name, value in values if value is not None],
            "lanes": list(zip(conversation.lanes, lanes_told(conversation), strict=True)),
            "go_on": f"{reverse('console:playground')}?{_address(conversation, row.id)}",
        }
    return private(show(request, "console/shared_conversation.html", context))


@page("conversations.write", methods=("GET", "POST"))
def shared_revoke(request: HttpRequest, visitor: Visitor, share_id: str) -> HttpResponse:
    """Asks whether it is meant, and takes it back: its maker, or an owner or admin."""
    row = shared_get(org=visitor.org, share_id=share_id)
    target = reverse("console:shared")
    if request.method != "POST":
        context = {"row": row, "title": shared_title(row), "may_revoke": _may_revoke(visitor, row)}
        return private(show(request, "console/shared_revoke.html", context))
    try:
        conversation_revoke(
            org=visitor.org, share_id=row.id, actor=visitor.actor, of_anyone=visitor.may("settings.write")
        )
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The link is revoked and what it showed is deleted.")


def _share(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    try:
        text = request.POST.get("conversation", "").encode("utf-8", "surrogatepass")
        conversation = conversation_numbered(visitor, text)
        made = conversation_share(
            org=visitor.org,
            conversation=conversation,
            title=request.POST.get("title", ""),
            actor=visitor.actor,
        )
    except KindlingError as error:
        # The chat is there again at its own address, with the reason above it.
        return refused(request, form_page(request), error)
    return done(
        request,
        reverse("console:shared-conversation", args=[made.id]),
        "Shared. Send the link to whom you like in the organisation.",
    )


def _address(conversation: Conversation, share_id: str) -> str:
    first, *others = (lane.model for lane in conversation.lanes)
    pairs = [("shared", share_id), ("model", first), *(("compare", ref) for ref in others)]
    return urlencode([*pairs, ("mode", conversation.mode)])


def _may_revoke(visitor: Visitor, row: Any) -> bool:
    return visitor.may("conversations.write") and (
        row.made_by_id == visitor.user.id or visitor.may("settings.write")
    )


def _people(visitor: Visitor) -> dict[str, str]:
    """Who belongs to the organisation, by id."""
    return {member.user_id: member.user.email for member in member_list(org=visitor.org)}
