"""Upload an adapter: with scripts over the control API, without them by one plain form that ends here."""

from collections.abc import Iterator
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.hub import HubForm
from kindling_console.forms.upload import UploadForm
from kindling_platform.adapters.selectors import adapter_get
from kindling_platform.adapters.services import (
    adapter_complete,
    adapter_create,
    adapter_delete,
    adapter_file_put,
)
from kindling_platform.adapters.zip_upload import adapter_zip_put
from kindling_platform.catalog.selectors import model_list
from kindling_platform.common.errors import KindlingError


@page("adapters.write", methods=("GET", "POST"))
def adapter_upload(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The drop zone, and the plain form under it."""
    bases = base_choices(visitor)
    form = UploadForm(request.POST or None, request.FILES or None, bases=bases)
    if request.method == "POST" and form.is_valid():
        try:
            return _receive(request, visitor, form)
        except KindlingError as error:
            form.add_error("name" if error.param == "name" else None, error.message)
    return upload_show(request, visitor, bases, form=form, status=422 if form.is_bound else 200)


def base_choices(visitor: Visitor) -> list[tuple[str, str]]:
    """The models that take adapters."""
    return [(model.ref, model.display_name) for model in model_list(org=visitor.org) if model.lora_ready]


def upload_show(
    request: HttpRequest,
    visitor: Visitor,
    bases: list[tuple[str, str]],
    *,
    form: UploadForm | None = None,
    hub_form: HubForm | None = None,
    status: int,
) -> HttpResponse:
    """The page with its two forms, of which one may be refused."""
    resumed = _resumed(visitor, request.GET.get("adapter", ""))
    asked = {name: request.GET.get(name, "") for name in ("name", "base", "hub", "revision")}
    given = asked | (request.POST.dict() if form and form.is_bound else {})
    context = {
        "form": form or UploadForm(bases=bases),
        "hub_form": hub_form or HubForm(initial=_hub_wanted(asked), bases=bases),
        "bases": bases,
        "resumed": resumed,
        "name": resumed.name if resumed else given["name"],
        "base": resumed.base.ref if resumed else given.get("base_model") or given["base"],
    }
    return show(request, "console/adapter_upload.html", context, status=status)


def _hub_wanted(asked: dict[str, str]) -> dict[str, str]:
    """What an address asks of the hub's form, as after a download that did not work out."""
    if not asked["hub"]:
        return {"base_model": asked["base"]}
    return {
        "hub_id": asked["hub"],
        "revision": asked["revision"],
        "name": asked["name"],
        "base_model": asked["base"],
    }


def _resumed(visitor: Visitor, adapter_id: str) -> Any:
    if not adapter_id:
        return None
    adapter = adapter_get(org=visitor.org, adapter_id=adapter_id)
    return adapter if adapter.state == "uploading" and adapter.hub is None else None


def _receive(request: HttpRequest, visitor: Visitor, form: UploadForm) -> HttpResponse:
    files: list[UploadedFile] = form.cleaned_data["files"]
    archive = next((file for file in files if str(file.name).lower().endswith(".zip")), None)
    claims = [] if archive else [{"name": file.name, "size_bytes": file.size} for file in files]
    adapter = adapter_create(
        org=visitor.org,
        name=form.cleaned_data["name"],
        base_ref=form.cleaned_data["base_model"],
        files=claims,  # type: ignore[arg-type]  # the form knows names and sizes
        actor=visitor.actor,
    )
    target = reverse("console:adapter", args=[adapter.id])
    wanted = {file.name for file in adapter.files.all()}
    try:
        if archive:
            adapter_zip_put(
                org=visitor.org, adapter_id=adapter.id, blocks=_blocks(archive), actor=visitor.actor
            )
        for file in sorted(files, key=lambda file: file.size or 0):
            if file.name in wanted:
                adapter_file_put(
                    org=visitor.org, adapter_id=adapter.id, name=file.name, blocks=_blocks(file),
                    actor=visitor.actor,
                )  # fmt: skip
        adapter_complete(org=visitor.org, adapter_id=adapter.id, actor=visitor.actor)
    except KindlingError as error:
        if error.code != "adapter_rejected":
            # A plain form cannot go on with it; it is sent again as a whole.
            adapter_delete(org=visitor.org, adapter_id=adapter.id, actor=visitor.actor)
            raise
        # The report on its page says more than a sentence here could.
    return done(request, target)


def _blocks(file: UploadedFile) -> Iterator[bytes]:
    yield from file.chunks()
