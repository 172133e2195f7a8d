"""Tables' rows as the dictionaries that `api.shapes` describes."""

from typing import Any

from kindling_billing.models import LedgerEntry, PriceVersion
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter
from kindling_platform.api.money import usd
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.revisions import Revised
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.models import UsageEvent

MILLION = 10**6


def plain_row(row: Any, *names: str) -> dict[str, Any]:
    """The named attributes of anything."""
    return {name: getattr(row, name) for name in names}


def organisation_row(org: Organisation) -> dict[str, Any]:
    return plain_row(org, "id", "slug", "name", "mfa_required")


def price_row(price: PriceVersion | None) -> dict[str, Any] | None:
    if price is None:
        return None
    amounts = {
        "input": price.input_picousd,
        "cached_input": price.cached_input_picousd,
        "output": price.output_picousd,
        "reasoning": price.reasoning_picousd,
    }
    return {
        "id": price.id,
        **{f"{name}_picousd": None if amount is None else str(amount) for name, amount in amounts.items()},
        **{
            f"{name}_usd_per_million": None if amount is None else usd(amount * MILLION)
            for name, amount in amounts.items()
        },
    }


def file_row(file: Any) -> dict[str, Any]:
    return plain_row(file, "name", "size_bytes", "received_bytes")


def adapter_row(adapter: Adapter) -> dict[str, Any]:
    names = (
        "id", "name", "ref", "state", "reason", "rank", "size_bytes", "content_hash", "error_code", "error",
        "report", "created_at", "ready_at",
    )  # fmt: skip
    files = sorted(adapter.files.all(), key=lambda file: file.name)
    return {
        **plain_row(adapter, *names),
        "base_model": adapter.base.ref,
        "hub_id": adapter.hub.repo_id if adapter.hub else "",
        "hub_commit": adapter.hub.commit if adapter.hub else "",
        "files": [file_row(file) for file in files],
    }


def deployment_row(deployment: Deployment) -> dict[str, Any]:
    names = (
        "id", "name", "desired_state", "desired_replicas", "weights", "kv_dtype", "state", "reason", "generation",
        "self_made", "created_at",
    )  # fmt: skip
    replicas = sorted(deployment.replicas.all(), key=lambda replica: replica.name)
    return {
        **plain_row(deployment, *names),
        "model": deployment.model.ref,
        "ready_replicas": sum(replica.state == "ready" for replica in replicas),
        "replicas": [
            plain_row(replica, "name", "state", "reason", "restarts", "ready_at") for replica in replicas
        ],
    }


def revision_row(revised: Revised) -> dict[str, Any]:
    row = revised.revision
    return {
        **plain_row(row, "number", "replicas", "weights", "kv_dtype", "restored", "created_at"),
        "model": row.model.ref,
        "changes": [plain_row(change, "name", "before", "after") for change in revised.changes],
        "is_current": revised.is_current,
        "created_by": revised.who,
    }


def key_row(key: ApiKey) -> dict[str, Any]:
    names = (
        "id", "name", "prefix", "last4", "scopes", "kind", "created_at", "expires_at", "revoked_at",
        "last_used_at",
    )  # fmt: skip
    return {
        **plain_row(key, *names),
        "created_by": key.created_by.email if key.created_by else None,
        "models": key.model_refs,
        "family": key.family_id,
    }


def usage_event_row(event: UsageEvent) -> dict[str, Any]:
    names = (
        "model_id", "adapter_id", "key_id", "deployment_id", "prompt_tokens", "cached_tokens",
        "completion_tokens", "reasoning_tokens", "batch", "finish", "billable", "price_version_id",
        "started_at", "first_token_at", "finished_at",
    )  # fmt: skip
    return {
        **plain_row(event, *names),
        "request_id": str(event.request_id),
        "model": event.model_name,
        "cost_picousd": str(event.cost_picousd),
        "cost_usd": usd(event.cost_picousd),
    }


def ledger_row(entry: LedgerEntry) -> dict[str, Any]:
    cause = entry.transaction
    amount_picousd = int(entry.amount_picousd)
    return {
        "id": entry.id,
        "transaction_id": cause.id,
        **plain_row(cause, "source_type", "source_id", "memo", "posted_at"),
        "amount_picousd": str(amount_picousd),
        "amount_usd": usd(amount_picousd),
    }
