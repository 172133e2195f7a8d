"""An adapter from the Hugging Face Hub: the second form of the upload page."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done
from kindling_console.forms.hub import HubForm
from kindling_console.pages.upload import base_choices, upload_show
from kindling_platform.adapters.hub_source import HubSource
from kindling_platform.adapters.services import adapter_create
from kindling_platform.common.errors import KindlingError


@page("adapters.write", methods=("POST",))
def adapter_from_hub(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Have a worker fetch it; its page follows."""
    bases = base_choices(visitor)
    form = HubForm(request.POST, bases=bases)
    if form.is_valid():
        given = form.cleaned_data
        try:
            adapter = adapter_create(
                org=visitor.org,
                name=given["name"],
                base_ref=given["base_model"],
                files=[],
                actor=visitor.actor,
                hub=HubSource(given["hub_id"], given["revision"], given["hub_token"]),
            )
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
        else:
            return done(request, reverse("console:adapter", args=[adapter.id]))
    return upload_show(request, visitor, bases, hub_form=form, status=422)
