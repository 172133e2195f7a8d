"""Webhooks: list, add, edit, switch, delete; a secret is in the answer that makes or shows it and nowhere else."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, is_fragment, private, refused, show
from kindling_console.forms.webhooks import WebhookForm
from kindling_console.sure import sure, sure_recently
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.hooks.places import place_check
from kindling_platform.hooks.selectors import (
    delivery_get,
    delivery_list,
    endpoint_get,
    endpoint_list,
    newest_map,
)
from kindling_platform.hooks.services import (
    MOST_ENDPOINTS,
    Wanted,
    delivery_again,
    endpoint_change,
    endpoint_create,
    endpoint_delete,
    endpoint_rotate,
    endpoint_secret_show,
    endpoint_test,
)
from kindling_platform.hooks.writing import body_of

SHOWN, WAITING = 25, "waiting"
REVEAL = "console/parts/webhook_secret.html"
FORM, ROWS = "console/parts/webhook_form.html", "console/parts/webhook_deliveries.html"


@page("webhooks.read", write="webhooks.write", methods=("GET", "POST"))
def webhooks(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """All of them, and a form for a new one."""
    form = WebhookForm(request.POST if request.method == "POST" else None)
    if form.is_bound:
        # Whoever finds a browser open must not be sent everything from now on.
        sure_recently(request)
        if form.is_valid() and (answer := _create(request, visitor, form)):
            return answer
    newest = newest_map(org=visitor.org)
    rows = [(row, newest.get(row.id)) for row in endpoint_list(org=visitor.org)]
    context = {"rows": rows, "form": form, "may_write": visitor.may("webhooks.write"), "most": MOST_ENDPOINTS}
    return show(request, "console/webhooks.html", context, part=FORM, status=422 if form.is_bound else 200)


@page("webhooks.read", write="webhooks.write", methods=("GET", "POST"))
def webhook(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """One of them with what was sent to it lately; the form changes it."""
    endpoint = endpoint_get(org=visitor.org, endpoint_id=webhook_id)
    form = WebhookForm(request.POST if request.method == "POST" else None, endpoint=endpoint)
    if form.is_bound:
        sure_recently(request)
        if form.is_valid() and _change(visitor, endpoint, form):
            return done(request, _address(endpoint), "The webhook is changed.")
        return show(
            request, "console/webhook.html", _context(request, visitor, endpoint, form), part=FORM, status=422
        )
    return show(request, "console/webhook.html", _context(request, visitor, endpoint, form), part=ROWS)


@page("webhooks.write", methods=("POST",))
def webhook_switch(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """On, or off."""
    is_on = request.POST.get("enabled") == "on"
    endpoint = endpoint_change(
        org=visitor.org, endpoint_id=webhook_id, wanted=Wanted(enabled=is_on), actor=visitor.actor
    )
    said = "It is on: what happens from now on is sent." if is_on else "It is off, and nothing more is sent."
    return done(request, _address(endpoint), said)


@page("webhooks.write", methods=("GET", "POST"))
def webhook_delete(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """Asks whether it is meant, and deletes."""
    endpoint = endpoint_get(org=visitor.org, endpoint_id=webhook_id)
    if request.method == "POST":
        endpoint_delete(org=visitor.org, endpoint_id=endpoint.id, actor=visitor.actor)
        return done(request, reverse("console:webhooks"), "The webhook is deleted.")
    return show(request, "console/webhook_delete.html", {"endpoint": endpoint})


@page("webhooks.write", methods=("POST",))
def webhook_secret(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """Show the secret to whoever has just confirmed that it is them."""
    endpoint = endpoint_get(org=visitor.org, endpoint_id=webhook_id)
    return _secret(request, visitor, endpoint.id)


@sure
def _secret(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    try:
        endpoint, secret = endpoint_secret_show(org=visitor.org, endpoint_id=webhook_id, actor=visitor.actor)
    except KindlingError as error:
        return _not_done(request, webhook_id, error)
    return _shown(request, endpoint, secret, "The signing secret")


@page("webhooks.write", methods=("POST",))
def webhook_rotate(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """Make a new secret and show it."""
    sure_recently(request)
    try:
        endpoint, secret = endpoint_rotate(org=visitor.org, endpoint_id=webhook_id, actor=visitor.actor)
    except KindlingError as error:
        return _not_done(request, webhook_id, error)
    return _shown(request, endpoint, secret, "The new signing secret")


@page("webhooks.write", methods=("POST",))
def webhook_test(request: HttpRequest, visitor: Visitor, webhook_id: str) -> HttpResponse:
    """Send a test event; the page shows what comes of it."""
    try:
        endpoint_test(org=visitor.org, endpoint_id=webhook_id, actor=visitor.actor)
    except KindlingError as error:
        return _not_done(request, webhook_id, error)
    return done(request, _path("webhook", webhook_id), "A test event is on its way.")


@page("webhooks.read")
def webhook_delivery(
    request: HttpRequest, visitor: Visitor, webhook_id: str, delivery_id: str
) -> HttpResponse:
    """One sending: what was sent, and what was answered."""
    found = delivery_get(org=visitor.org, endpoint_id=webhook_id, delivery_id=delivery_id)
    endpoint = endpoint_get(org=visitor.org, endpoint_id=webhook_id)
    context = {
        "endpoint": endpoint, "delivery": found, "body": body_of(found.event).decode(),
        "may_write": visitor.may("webhooks.write"), "moving": found.state == WAITING,
    }  # fmt: skip
    return show(
        request, "console/webhook_delivery.html", context, part="console/parts/webhook_delivery_live.html"
    )


@page("webhooks.write", methods=("POST",))
def webhook_again(request: HttpRequest, visitor: Visitor, webhook_id: str, delivery_id: str) -> HttpResponse:
    """Send it again, under the same id."""
    try:
        delivery_again(org=visitor.org, endpoint_id=webhook_id, delivery_id=delivery_id, actor=visitor.actor)
    except KindlingError as error:
        return _not_done(request, webhook_id, error)
    return done(request, _path("webhook-delivery", webhook_id, delivery_id), "It is sent again.")


def _create(request: HttpRequest, visitor: Visitor, form: WebhookForm) -> HttpResponse | None:
    """The secret of the new one; None when the form was refused, which it says itself."""
    try:
        place = place_check(form.cleaned_data["url"])
        wanted = Wanted(description=form.cleaned_data["description"], events=form.chosen())
        endpoint, secret = endpoint_create(org=visitor.org, place=place, wanted=wanted, actor=visitor.actor)
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return None
    return _shown(request, endpoint, secret, "Your new webhook", is_new=True)


def _change(visitor: Visitor, endpoint: Any, form: WebhookForm) -> bool:
    url = form.cleaned_data["url"]
    try:
        wanted = Wanted(
            place=place_check(url) if url != endpoint.url else None,
            description=form.cleaned_data["description"], events=form.chosen(),
        )  # fmt: skip
        endpoint_change(org=visitor.org, endpoint_id=endpoint.id, wanted=wanted, actor=visitor.actor)
    except KindlingError as error:
        if error.status == 404:
            raise
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return False
    return True


def _context(request: HttpRequest, visitor: Visitor, endpoint: Any, form: WebhookForm) -> dict[str, Any]:
    rows, order = delivery_list(org=visitor.org, endpoint_id=endpoint.id), ("created_at", "id")
    try:
        found = page_get(rows, order=order, cursor=request.GET.get("cursor", ""), limit=SHOWN)
    except KindlingError:
        found = page_get(rows, order=order, limit=SHOWN)
    until = endpoint.old_secret_until
    return {
        "endpoint": endpoint,
        "form": form,
        "deliveries": found.rows,
        "next": found.next_cursor,
        "moving": any(row.state == WAITING for row in found.rows),
        "old_until": until if until and until > now() else None,
        "may_write": visitor.may("webhooks.write"),
    }


def _shown(
    request: HttpRequest, endpoint: Any, secret: str, title: str, *, is_new: bool = False
) -> HttpResponse:
    context = {
        "endpoint": endpoint, "secret": secret, "title": title, "is_new": is_new,
        "in_dialog": is_fragment(request),
    }  # fmt: skip
    return private(show(request, "console/webhook_secret.html", context, part=REVEAL))


def _not_done(request: HttpRequest, webhook_id: str, error: KindlingError) -> HttpResponse:
    if error.status == 404:
        raise error
    return refused(request, _path("webhook", webhook_id), error)


def _address(endpoint: Any) -> str:
    return _path("webhook", endpoint.id)


def _path(name: str, *ids: str) -> str:
    return reverse(f"console:{name}", args=ids)
