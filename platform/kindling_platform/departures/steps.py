"""What is cleared away of an organisation, one kind after the other.

Each step gives how much it found, and nothing once nothing is left. None of them touches ledger, invoices, usage or the
audit log.
"""

from collections.abc import Callable

from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.paying import cards_detach
from kindling_platform.adapters.models import Adapter, ModelAlias
from kindling_platform.adapters.services import adapter_delete
from kindling_platform.batches.models import Batch, StoredFile
from kindling_platform.batches.services import batches_delete
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.purging import purged
from kindling_platform.deployments.selectors import deployment_list
from kindling_platform.deployments.services import deployment_delete
from kindling_platform.hooks.ending import webhooks_clear
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.services import key_revoke
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.requestlog.selectors import request_log_days
from kindling_platform.requestlog.services import request_log_set
from kindling_platform.responses.models import SharedConversation, StoredResponse
from kindling_platform.responses.selectors import keeping_get
from kindling_platform.responses.services import retention_set
from kindling_platform.usage.models import Feedback, IdempotentReply

ROWS, BATCHES = 1000, 20
# Each of these is a transaction of its own.
MOST = 500


def keys_revoke(org: Organisation) -> int:
    """Every key, those of the playground and of the installation's start among them."""
    ids = list(ApiKey.objects.for_org(org).filter(revoked_at=None).values_list("id", flat=True)[:MOST])
    for key_id in ids:
        key_revoke(org=org, key_id=key_id, actor=SYSTEM)
    return len(ids)


def deployments_delete(org: Organisation) -> int:
    """Its own deployments; their replicas are wound down like those of any other."""
    ids = list(deployment_list(org=org).values_list("id", flat=True)[:MOST])
    for deployment_id in ids:
        deployment_delete(org=org, deployment_id=deployment_id, actor=SYSTEM)
    return len(ids)


def adapters_delete(org: Organisation) -> int:
    """Its adapters, whatever their state; their files go where nobody else has the same, as those of any other."""
    rows = Adapter.objects.for_org(org).exclude(state=Adapter.State.DELETED)
    ids = list(rows.values_list("id", flat=True)[:MOST])
    for adapter_id in ids:
        adapter_delete(org=org, adapter_id=adapter_id, actor=SYSTEM)
    return len(ids)


def request_log_clear(org: Organisation) -> int:
    """Prompts and answers, most of them in bounded steps; the switch-off sees to it that none comes after."""
    found = purged(LoggedRequest.objects.for_org(org), limit=ROWS, batches=BATCHES)
    if found < ROWS * BATCHES and request_log_days(org=org):
        request_log_set(org=org, days=0, actor=SYSTEM)
        found += 1
    return found


def responses_clear(org: Organisation) -> int:
    """Stored responses and shared conversations; none is kept any more before they are deleted."""
    was_keeping = keeping_get(org=org).days != 0
    if was_keeping:
        retention_set(org=org, days=0, actor=SYSTEM)
    kinds = (StoredResponse, SharedConversation)
    return was_keeping + sum(purged(kind.objects.for_org(org), limit=ROWS, batches=BATCHES) for kind in kinds)


def batches_clear(org: Organisation) -> int:
    """Batches and their files."""
    found = Batch.objects.for_org(org).count() + StoredFile.objects.for_org(org).count()
    if found:
        batches_delete(org=org)
    return found


def answers_clear(org: Organisation) -> int:
    """Answers for an Idempotency-Key, and what was thought of answers."""
    kinds = (IdempotentReply, Feedback)
    return sum(purged(kind.objects.for_org(org), limit=ROWS, batches=BATCHES) for kind in kinds)


def names_clear(org: Organisation) -> int:
    """Aliases, and the limits that bound nobody any more."""
    kinds = (ModelAlias, LimitSet)
    return sum(purged(kind.objects.for_org(org), limit=ROWS, batches=BATCHES) for kind in kinds)


def cards_forget(org: Organisation) -> int:
    """Saved cards, at the provider."""
    return cards_detach(org=org, actor=SYSTEM)


def webhooks_forget(org: Organisation) -> int:
    """Webhooks and what was sent to them: nothing of the deletion itself goes out."""
    return webhooks_clear(org=org)


STEPS: tuple[Callable[[Organisation], int], ...] = (
    webhooks_forget,
    keys_revoke,
    deployments_delete,
    adapters_delete,
    request_log_clear,
    responses_clear,
    batches_clear,
    answers_clear,
    names_clear,
    cards_forget,
)
