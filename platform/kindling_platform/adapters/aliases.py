"""Other names for an organisation's models, so that clients may keep those which they have used elsewhere."""

import re

from django.db import transaction
from django.db.models import QuerySet

from kindling_platform.accounts.actor import Actor
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter, ModelAlias
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.selectors import model_get
from kindling_platform.common.errors import KindlingError, not_found

# The forms that the gateway reads a model's name in, without the mark of a deployment.
_PART = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
ALIAS = re.compile(rf"{_PART}(/{_PART})?|accounts/{_PART}/models/{_PART}")
MAX_ALIAS_CHARS = 200
MAX_ALIASES = 20_000


def alias_list(*, org: Organisation) -> "QuerySet[ModelAlias]":
    """An organisation's aliases, newest first."""
    return ModelAlias.objects.for_org(org).select_related("organisation").order_by("-created_at", "-id")


def alias_get(*, org: Organisation, alias: str) -> ModelAlias:
    """One alias.

    Raises:
        KindlingError: not_found.
    """
    found: ModelAlias | None = alias_list(org=org).filter(alias=alias).first()
    if found is None:
        raise not_found("alias")
    return found


def alias_set(*, org: Organisation, alias: str, target: str, actor: Actor) -> ModelAlias:
    """Let ``alias`` stand for the model or adapter ``target``, whatever it stood for before.

    Raises:
        KindlingError: alias_invalid, too_many_aliases, not_found for a target that the organisation cannot call.
    """
    if len(alias) > MAX_ALIAS_CHARS or not ALIAS.fullmatch(alias):
        raise KindlingError(
            "alias_invalid",
            f"An alias reads name, organisation/name or accounts/organisation/models/name, with letters, digits and "
            f"any of . _ : - in each part, and has {MAX_ALIAS_CHARS} characters at most.",
            param="alias",
        )
    ref = target_ref(org, target)
    if alias in {ref, ref.partition("/")[2]}:
        raise KindlingError("alias_invalid", f"{alias} is that model's own name.", param="alias")
    with transaction.atomic():
        known = ModelAlias.objects.for_org(org).filter(alias=alias).exists()
        if not known and ModelAlias.objects.for_org(org).count() >= MAX_ALIASES:
            raise KindlingError(
                "too_many_aliases", f"An organisation has {MAX_ALIASES:,} aliases at most.", 409
            )
        made, _ = ModelAlias.objects.update_or_create(organisation=org, alias=alias, defaults={"target": ref})
        audit_record(
            actor=actor,
            action="alias.set",
            target=made.id,
            organisation_id=org.id,
            data={"alias": alias, "target": ref},
        )
    return made


def alias_delete(*, org: Organisation, alias: str, actor: Actor) -> None:
    """Forget an alias; requests under it are not found from a second later on.

    Raises:
        KindlingError: not_found.
    """
    with transaction.atomic():
        found = ModelAlias.objects.for_org(org).select_for_update().filter(alias=alias).first()
        if found is None:
            raise not_found("alias")
        audit_record(
            actor=actor, action="alias.delete", target=found.id, organisation_id=org.id, data={"alias": alias}
        )
        found.delete()


def target_ref(org: Organisation, target: str) -> str:
    """The full name of an adapter by name, or of a model by its full name. Raises KindlingError not_found."""
    slug, _, name = target.rpartition("/")
    if slug in {"", org.slug}:
        adapter = Adapter.objects.for_org(org).exclude(state=Adapter.State.DELETED).filter(name=name).first()
        if adapter is not None:
            return f"{org.slug}/{adapter.name}"
    return model_get(org=org, ref=target).ref
