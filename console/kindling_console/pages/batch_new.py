"""A batch begun from a file in the browser."""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.batches import BatchForm
from kindling_console.playground_choices import choices_get
from kindling_platform.batches.beginning import batch_begin
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.selectors import key_get, key_list

SHOWN = 200
BEGUN = "The batch has begun. Its lines are looked at first; nothing is charged for one that is refused."
# Also for whoever went back to the form and chose another file.
BEGUN_BEFORE = "Your form had begun this batch before, and began no other. Open a new form for another file."


@page("batches.write", methods=("GET", "POST"))
def batch_new(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What to choose; a post begins the batch."""
    works = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now()))
    # Of the visitor's own: what a key spends counts for whoever made it.
    usable = key_list(org=visitor.org).filter(works, created_by=visitor.user)
    keys = usable.filter(scopes__contains=["inference"])[:SHOWN]
    models = [choice["ref"] for choice in choices_get(visitor).chats]
    sent = (request.POST, request.FILES) if request.method == "POST" else ()
    form = BatchForm(
        *sent,
        org_id=visitor.org.id,
        keys=[(key.id, f"{key.name} ({key})") for key in keys],
        models=models,
    )
    if form.is_bound and form.is_valid():
        key = key_get(org=visitor.org, key_id=form.cleaned_data["key"])
        try:
            batch, is_new = batch_begin(
                org=visitor.org,
                batch_id=form.batch_id(),
                key_id=key.id,
                key_digest=bytes(key.digest),
                endpoint=form.route(),
                filename=form.cleaned_data["file"].name,
                pieces=form.pieces(),
                actor=visitor.actor,
            )
        except KindlingError as error:
            form.add_error(None, error.message)
        else:
            return done(request, reverse("console:batch", args=[batch.id]), BEGUN if is_new else BEGUN_BEFORE)
    context = {"form": form, "keys": bool(keys), "models": bool(models)}
    return show(request, "console/batch_new.html", context, status=422 if form.is_bound else 200)
