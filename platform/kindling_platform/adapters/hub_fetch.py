"""What a download from the hub leaves in the database: whose turn it is, what will come, and how it ends."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F, Max, OuterRef, QuerySet, Subquery

from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.adapters.hub_seal import token_forget
from kindling_platform.adapters.models import Adapter, AdapterFile, HubFetch
from kindling_platform.adapters.storage import upload_discard
from kindling_platform.audit.services import audit_record
from kindling_platform.common.clock import now

# Waits after the first failure and the next ones; after the last try there is none.
RETRY_AFTER_S = (5, 15, 60, 180, 600)


def hub_fetch_list_due(limit: int = 20) -> list[str]:
    """Ids of adapters whose files may be fetched on, of organisations in turn: who has many waits no less for each."""
    waiting = HubFetch.objects.filter(
        adapter__state=Adapter.State.UPLOADING,
        adapter__organisation__suspended_at__isnull=True,
        due_at__lte=now(),
    )
    same = HubFetch.objects.filter(adapter__organisation=OuterRef("adapter__organisation")).order_by()
    last = same.values("adapter__organisation").annotate(last=Max("stepped_at")).values("last")
    turn = waiting.annotate(org_last=Subquery(last)).order_by(
        F("org_last").asc(nulls_first=True), F("stepped_at").asc(nulls_first=True), "adapter_id"
    )
    return list(turn.values_list("adapter_id", flat=True)[:limit])


def hub_fetch_began(*, adapter_id: str, token: str) -> None:
    """Note that it is this one's turn."""
    _mine(adapter_id, token).update(stepped_at=now())


@transaction.atomic
def hub_fetch_plan(*, adapter_id: str, token: str, commit: str, sizes: dict[str, int]) -> bool:
    """Note the commit and the files that will come, sizes in bytes. False if the lease was lost."""
    adapter = _locked(adapter_id, token)
    if adapter is None:
        return False
    for name, size in sizes.items():
        AdapterFile.objects.update_or_create(
            adapter=adapter, name=name, defaults={"size_bytes": size, "received_bytes": 0}
        )
    adapter.size_bytes, adapter.reason = sum(sizes.values()), ""
    adapter.save(update_fields=["size_bytes", "reason"])
    HubFetch.objects.filter(adapter=adapter).update(commit=commit, failures=0)
    return True


def hub_fetch_advanced(*, adapter_id: str, token: str) -> None:
    """Note that bytes came: what failed before is over."""
    if _mine(adapter_id, token).exclude(failures=0).update(failures=0):
        Adapter.objects.filter(id=adapter_id, lease_token=token).update(reason="")


@transaction.atomic
def hub_fetch_postpone(*, adapter_id: str, token: str, wait_s: float, reason: str = "") -> None:
    """Try again after a while, with a plain reason why; without one nothing has failed."""
    adapter = _locked(adapter_id, token)
    if adapter is None:
        return
    due_at = now() + timedelta(seconds=wait_s)
    mine = HubFetch.objects.filter(adapter=adapter)
    if not reason:
        mine.update(due_at=due_at)
        return
    mine.update(due_at=due_at, failures=F("failures") + 1)
    adapter.reason = reason[:300]
    adapter.save(update_fields=["reason"])


@transaction.atomic
def hub_fetch_reject(*, adapter_id: str, token: str, code: str, sentence: str) -> bool:
    """End it without an adapter. False if the lease was lost."""
    adapter = _locked(adapter_id, token)
    if adapter is None:
        return False
    adapter.state = Adapter.State.REJECTED
    adapter.error_code, adapter.error, adapter.reason = code[:64], sentence[:500], sentence[:300]
    adapter.save(update_fields=["state", "error_code", "error", "reason"])
    token_forget(adapter.id)
    audit_record(
        actor=SYSTEM,
        action="adapter.rejected",
        target=adapter.id,
        organisation_id=adapter.organisation_id,
        data={"code": code},
    )
    transaction.on_commit(lambda: upload_discard(adapter_id=adapter_id))
    return True


def _mine(adapter_id: str, token: str) -> QuerySet[HubFetch]:
    return HubFetch.objects.filter(
        adapter_id=adapter_id, adapter__lease_token=token, adapter__state=Adapter.State.UPLOADING
    )


def _locked(adapter_id: str, token: str) -> Adapter | None:
    mine = Adapter.objects.filter(id=adapter_id, lease_token=token, state=Adapter.State.UPLOADING)
    found: Adapter | None = mine.select_for_update().first()
    return found
