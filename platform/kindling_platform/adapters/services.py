"""The life of an adapter: create, receive files, complete, validate, delete."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypedDict

from django.db import IntegrityError, transaction

from kindling_platform.accounts.actor import SYSTEM, Actor
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.adapters.files import NEEDED, file_accepted, size_checked
from kindling_platform.adapters.guards import adapter_locked, adapter_sendable_get, rejected
from kindling_platform.adapters.hub_seal import token_close, token_forget
from kindling_platform.adapters.hub_source import HubSource, hub_source_checked
from kindling_platform.adapters.models import Adapter, AdapterFile, HubFetch
from kindling_platform.adapters.receiving import file_receive
from kindling_platform.adapters.selectors import adapter_get
from kindling_platform.adapters.storage import (
    blob_release,
    room_checked,
    upload_discard,
    upload_idle_s,
    upload_locked,
)
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.selectors import model_get
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.jobs import enqueue
from kindling_platform.common.slugs import name_checked

MAX_UPLOADS_AT_ONCE = 50
UPLOAD_IDLE_S = 24 * 3600.0
VALIDATE_JOB = "adapters.validate"
FETCH_JOB = "adapters.fetch"
COMPLETED = {Adapter.State.VALIDATING, Adapter.State.READY}


class FileClaim(TypedDict):
    """A file that will be uploaded."""

    name: str
    size_bytes: int


def adapter_create(
    *,
    org: Organisation,
    name: str,
    base_ref: str,
    files: list[FileClaim],
    actor: Actor,
    hub: HubSource | None = None,
) -> Adapter:
    """Open an upload, or have a worker fetch the files from the `hub`.

    A rejected or unfinished adapter of the same name makes way; a ready one does not.

    Raises:
        KindlingError: name_invalid, adapter_exists, not_found, not_lora_ready, too_many_uploads, hub_id_invalid, and
            those of files.
    """
    name_checked(name)
    if hub is not None:
        hub_source_checked(hub)
    base = model_get(org=org, ref=base_ref)
    if not base.lora_ready:
        raise KindlingError("not_lora_ready", f"{base.ref} does not take adapters.", param="base_model")
    kept = {
        file["name"]: size_checked(file["name"], file["size_bytes"])
        for file in files
        if file_accepted(file["name"]) and (file["size_bytes"] or file["name"] in NEEDED)
    }
    if Adapter.objects.for_org(org).filter(state=Adapter.State.UPLOADING).count() >= MAX_UPLOADS_AT_ONCE:
        raise KindlingError(
            "too_many_uploads", "Too many uploads are open; complete or delete some first.", 409
        )
    if Model.objects.for_org(org).filter(name=name).exists():
        raise KindlingError("adapter_exists", f"{org.slug}/{name} is a model already.", 409, param="name")
    room_checked(sum(kept.values()))
    try:
        with transaction.atomic():
            _make_way(org, name, actor)
            adapter = Adapter.objects.create(
                organisation=org,
                base=base,
                name=name,
                size_bytes=sum(kept.values()),
                created_by=User.objects.filter(id=actor.user_id).first() if actor.id else None,
            )
            AdapterFile.objects.bulk_create(
                AdapterFile(adapter=adapter, name=file, size_bytes=size) for file, size in kept.items()
            )
            if hub is not None:
                _hub_fetch_begin(adapter, hub)
            audit_record(
                actor=actor,
                action="adapter.create",
                target=adapter.id,
                organisation_id=org.id,
                data={"hub_id": hub.repo_id, "revision": hub.revision} if hub is not None else None,
            )
    except IntegrityError as error:
        raise _exists(org, name) from error
    return adapter


def adapter_file_put(
    *,
    org: Organisation,
    adapter_id: str,
    name: str,
    blocks: Iterable[bytes],
    actor: Actor,
    offset: int = 0,
    total_bytes: int | None = None,
    part_bytes: int | None = None,
) -> AdapterFile:
    """Receive a file, or `part_bytes` of it from `offset` on. Parts come in order and may be sent again.

    Raises:
        KindlingError: not_found, not_uploading, file_not_expected, range_mismatch, file_too_large, empty_file,
            upload_busy, adapter_rejected, disk_full.
    """
    adapter = adapter_sendable_get(org=org, adapter_id=adapter_id)
    with upload_locked(adapter.id) as folder:
        return file_receive(
            adapter=adapter_sendable_get(org=org, adapter_id=adapter_id),
            folder=folder,
            name=name,
            blocks=blocks,
            actor=actor,
            offset=offset,
            total_bytes=total_bytes,
            part_bytes=part_bytes,
        )


def adapter_complete(*, org: Organisation, adapter_id: str, actor: Actor) -> Adapter:
    """Say that all files are there; validation begins. Twice is the same as once.

    Raises:
        KindlingError: not_found, upload_incomplete, adapter_rejected.
    """
    adapter = adapter_get(org=org, adapter_id=adapter_id)
    if adapter.state in COMPLETED:
        return adapter
    # Under the lock nobody writes, and whoever comes after sees the new state.
    with upload_locked(adapter.id), transaction.atomic():
        adapter = adapter_locked(org=org, adapter_id=adapter.id)
        if adapter.state in COMPLETED:
            return adapter
        if adapter.state == Adapter.State.REJECTED:
            raise rejected(adapter)
        files = {file.name: file for file in adapter.files.all()}
        missing = [name for name in NEEDED if not _is_whole(files.get(name))]
        if missing:
            text = f"Not all bytes of {' and '.join(missing)} have arrived."
            raise KindlingError("upload_incomplete", text, 409, details=missing)
        adapter.state = Adapter.State.VALIDATING
        adapter.reason = "Waiting for a worker."
        adapter.size_bytes = sum(file.size_bytes for file in files.values())
        adapter.completed_at = now()
        adapter.save(update_fields=["state", "reason", "size_bytes", "completed_at"])
        token_forget(adapter.id)
        audit_record(actor=actor, action="adapter.complete", target=adapter.id, organisation_id=org.id)
        enqueue(VALIDATE_JOB, adapter_id=adapter.id)
    return adapter_get(org=org, adapter_id=adapter.id)


@transaction.atomic
def adapter_delete(*, org: Organisation, adapter_id: str, actor: Actor) -> None:
    """Take an adapter out of service; requests that run go on. Its usage stays.

    Raises:
        KindlingError: not_found.
    """
    adapter = adapter_locked(org=org, adapter_id=adapter_id)
    _mark_deleted(adapter, actor)


@transaction.atomic
def upload_list_expire(*, idle_s: float = UPLOAD_IDLE_S) -> list[str]:
    """Delete uploads that nobody went on with and give their ids; safe to run at any time."""
    # A download ends by itself, however long it has to wait.
    stale = Adapter.objects.filter(
        state=Adapter.State.UPLOADING,
        created_at__lt=now() - timedelta(seconds=idle_s),
        hub_fetch__isnull=True,
    )
    expired = []
    for adapter in stale.select_for_update(skip_locked=True, of=("self",)):
        if upload_idle_s(adapter.id) >= idle_s:
            _mark_deleted(adapter, SYSTEM)
            expired.append(adapter.id)
    return expired


@transaction.atomic
def adapter_validation_store(
    *,
    adapter_id: str,
    token: str,
    report: dict[str, Any],
    content_hash: str = "",
    error_code: str = "",
    error: str = "",
) -> bool:
    """Store the outcome of a validation: rejected with an error code, ready without. False if the lease was lost."""
    adapter = Adapter.objects.select_for_update().filter(id=adapter_id, lease_token=token).first()
    if adapter is None or adapter.state != Adapter.State.VALIDATING:
        return False
    adapter.report = report
    adapter.rank = report.get("rank") or None
    adapter.lease_token, adapter.lease_expires_at = "", None
    if error_code:
        adapter.state, adapter.reason = Adapter.State.REJECTED, error[:300]
        adapter.error_code, adapter.error = error_code[:64], error[:500]
        adapter.content_hash = ""
    else:
        adapter.state, adapter.reason = Adapter.State.READY, ""
        adapter.content_hash, adapter.ready_at = content_hash, now()
    adapter.save()
    audit_record(
        actor=SYSTEM,
        action=f"adapter.{adapter.state}",
        target=adapter.id,
        organisation_id=adapter.organisation_id,
        data={"code": error_code},
    )
    transaction.on_commit(lambda: upload_discard(adapter_id=adapter_id))
    return True


def adapter_content_note(*, adapter_id: str, token: str, content_hash: str) -> bool:
    """Note where the files of an adapter that is being checked are kept. False if the lease was lost."""
    mine = Adapter.objects.filter(id=adapter_id, lease_token=token, state=Adapter.State.VALIDATING)
    return bool(mine.update(content_hash=content_hash))


def adapter_validation_postpone(*, adapter_id: str, token: str, reason: str) -> None:
    """Give the lease back with a plain reason why the adapter is not ready yet."""
    Adapter.objects.filter(id=adapter_id, lease_token=token).update(
        reason=reason[:300], lease_token="", lease_expires_at=None
    )


def _hub_fetch_begin(adapter: Adapter, hub: HubSource) -> None:
    HubFetch.objects.create(
        adapter=adapter,
        repo_id=hub.repo_id,
        revision=hub.revision,
        sealed_token=token_close(hub.token, org_id=adapter.organisation_id, adapter_id=adapter.id),
    )
    adapter.reason = "Waiting for a worker."
    adapter.save(update_fields=["reason"])
    enqueue(FETCH_JOB)


def _make_way(org: Organisation, name: str, actor: Actor) -> None:
    existing = (
        Adapter.objects.for_org(org)
        .select_for_update()
        .filter(name=name)
        .exclude(state=Adapter.State.DELETED)
        .first()
    )
    if existing is None:
        return
    if existing.state not in {Adapter.State.UPLOADING, Adapter.State.REJECTED}:
        raise _exists(org, name)
    _mark_deleted(existing, actor)


def _mark_deleted(adapter: Adapter, actor: Actor) -> None:
    adapter.state = Adapter.State.DELETED
    adapter.save(update_fields=["state"])
    token_forget(adapter.id)
    audit_record(
        actor=actor, action="adapter.delete", target=adapter.id, organisation_id=adapter.organisation_id
    )
    transaction.on_commit(lambda: upload_discard(adapter_id=adapter.id))
    transaction.on_commit(lambda: blob_release(adapter.content_hash))


def _exists(org: Organisation, name: str) -> KindlingError:
    return KindlingError(
        "adapter_exists",
        f"{org.slug}/{name} exists; choose another name or delete it first.",
        409,
        param="name",
    )


def _is_whole(file: AdapterFile | None) -> bool:
    return file is not None and file.received_bytes == file.size_bytes > 0
