"""What every step of an upload asks first: is it there, is it ours, does it still take files."""

from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter
from kindling_platform.common.errors import KindlingError, not_found


def adapter_uploading_get(*, org: Organisation, adapter_id: str) -> Adapter:
    """An adapter that takes files.

    Raises:
        KindlingError: not_found, adapter_rejected, not_uploading.
    """
    adapter: Adapter | None = (
        Adapter.objects.for_org(org)
        .select_related("base__organisation", "organisation", "hub_fetch")
        .filter(id=adapter_id)
        .exclude(state=Adapter.State.DELETED)
        .first()
    )
    if adapter is None:
        raise not_found("adapter")
    if adapter.state == Adapter.State.REJECTED:
        raise rejected(adapter)
    if adapter.state != Adapter.State.UPLOADING:
        raise KindlingError(
            "not_uploading", "This adapter is complete; create a new one to upload again.", 409
        )
    return adapter


def adapter_sendable_get(*, org: Organisation, adapter_id: str) -> Adapter:
    """An adapter that takes files from its owner.

    Raises:
        KindlingError: fetched_from_hub, and those of `adapter_uploading_get`.
    """
    adapter = adapter_uploading_get(org=org, adapter_id=adapter_id)
    if adapter.hub is not None:
        text = "The files of this adapter are fetched from the hub; create another one to send your own."
        raise KindlingError("fetched_from_hub", text, 409)
    return adapter


def adapter_locked(*, org: Organisation, adapter_id: str) -> Adapter:
    """An adapter whose row is ours until the transaction ends.

    Raises:
        KindlingError: not_found.
    """
    adapter: Adapter | None = (
        Adapter.objects.for_org(org)
        .select_for_update()
        .filter(id=adapter_id)
        .exclude(state=Adapter.State.DELETED)
        .first()
    )
    if adapter is None:
        raise not_found("adapter")
    return adapter


def rejected(adapter: Adapter) -> KindlingError:
    """The refusal of anything that goes on with a rejected adapter; carries its report."""
    return KindlingError(
        "adapter_rejected", adapter.error, 409, param=adapter.error_code, details=adapter.report
    )
