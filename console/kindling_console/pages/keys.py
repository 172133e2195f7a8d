"""API keys: list, create, rotate, revoke. A new key's text is in one answer and nowhere else."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, is_fragment, private, refused, show
from kindling_console.forms.keys import KeyForm, KeyRotateForm
from kindling_console.quickstart import snippets
from kindling_console.sure import sure_recently
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.selectors import model_list_live_first
from kindling_platform.keys.selectors import key_get, key_list, key_successor_find
from kindling_platform.keys.services import key_create, key_revoke, key_rotate

SHOWN = 200


@page("keys.read", write="keys.write", methods=("GET", "POST"))
def keys(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The keys, and a form for a new one."""
    if request.method == "POST":
        return _create(request, visitor)
    return show(request, "console/keys.html", _context(visitor, KeyForm(may_operate=visitor.is_operator)))


@page("keys.write", methods=("GET", "POST"))
def key_revoke_page(request: HttpRequest, visitor: Visitor, key_id: str) -> HttpResponse:
    """Ask, then revoke for good."""
    key = key_get(org=visitor.org, key_id=key_id)
    if request.method == "POST":
        key_revoke(org=visitor.org, key_id=key.id, actor=visitor.actor)
        return done(
            request, reverse("console:keys"), f"“{key.name}” is revoked. It is refused within a second."
        )
    return show(request, "console/key_revoke.html", {"key": key})


@page("keys.write", methods=("GET", "POST"))
def key_rotate_page(request: HttpRequest, visitor: Visitor, key_id: str) -> HttpResponse:
    """Ask how long the old key goes on, then make its successor and show it once; a form sent again makes none."""
    key = key_get(org=visitor.org, key_id=key_id)
    if request.method == "POST":
        sure_recently(request)
    form = KeyRotateForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made, text = key_rotate(
                org=visitor.org,
                key_id=key.id,
                overlap=form.chosen(),
                actor=visitor.actor,
                may_operate=visitor.is_operator,
            )
        except KindlingError as error:
            return refused(request, reverse("console:keys"), error)
        ending = key_get(org=visitor.org, key_id=key.id)
        context = _made(visitor, made, text) | {"old_key": ending, "old_is_over": _is_over(ending)}
        return private(show(request, "console/key_created.html", context))
    if key_successor_find(key=key) is not None:
        said = f"“{key.name}” was rotated already: rotate its successor, or make a new key."
        messages.error(request, said)
        return done(request, reverse("console:keys"))
    status = 422 if form.is_bound else 200
    return show(request, "console/key_rotate.html", {"key": key, "form": form}, status=status)


def _create(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    sure_recently(request)
    form = KeyForm(request.POST, may_operate=visitor.is_operator)
    if not form.is_valid():
        return show(
            request,
            "console/keys.html",
            _context(visitor, form),
            part="console/parts/key_form.html",
            status=422,
        )
    try:
        key, text = key_create(
            org=visitor.org,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_at=form.expires_at(now()),
            actor=visitor.actor,
            may_operate=visitor.is_operator,
        )
    except KindlingError as error:
        if not is_fragment(request):
            return refused(request, reverse("console:keys"), error)
        form.add_error(None, error.message)
        return show(
            request,
            "console/keys.html",
            _context(visitor, form),
            part="console/parts/key_form.html",
            status=422,
        )
    context = _made(visitor, key, text) | {"in_dialog": is_fragment(request)}
    return private(show(request, "console/key_created.html", context, part="console/parts/key_created.html"))


def _made(visitor: Visitor, key: Any, text: str) -> dict[str, object]:
    """What the one answer with a key's text shows."""
    models = list(model_list_live_first(org=visitor.org)[:1])
    return {
        "new_key": key,
        "new_text": text,
        "snippets": snippets(models[0].ref, key=text, surface=models[0].surface) if models else [],
    }


def _context(visitor: Visitor, form: KeyForm) -> dict[str, object]:
    rows = list(key_list(org=visitor.org)[:SHOWN])
    newest: dict[str, Any] = {}
    for key in rows:
        newest.setdefault(key.family_key_id, key)
    return {
        "form": form,
        "live": [(key, newest[key.family_key_id] is not key) for key in rows if not _is_over(key)],
        "past": [key for key in rows if _is_over(key)],
        "may_write": visitor.may("keys.write"),
    }


def _is_over(key: Any) -> bool:
    return bool(key.revoked_at is not None or (key.expires_at and key.expires_at <= now()))
