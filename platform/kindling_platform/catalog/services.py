"""Brings models into the catalog."""

from pathlib import Path

from django.conf import settings
from django.db import transaction

from kindling_billing.errors import BillingError
from kindling_billing.models import PriceVersion
from kindling_billing.selectors import price_current
from kindling_billing.services import price_publish
from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.hub import model_target, snapshot_fetch
from kindling_platform.catalog.models import Model
from kindling_platform.common.actors import SYSTEM, Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.slugs import name_checked

NAMED_ADAPTERS = 3


@transaction.atomic
def model_import(
    *,
    org: Organisation,
    name: str,
    source_path: Path | str,
    display_name: str = "",
    description: str = "",
    is_public: bool = False,
    is_stand_in: bool = False,
    lora_ready: bool = True,
    licence: str = "",
    actor: Actor = SYSTEM,
) -> Model:
    """Enter a Hugging Face folder under a name; a repeat brings the entry up to date.

    Raises:
        KindlingError: `name_invalid`, `name_taken`, `model_changed` when weights of another shape, or with another
            tokenizer, come under a name that adapters stand on, and what `catalog.folder.model_folder_read` raises.
    """
    name_checked(name)
    path = Path(source_path).resolve()
    facts = model_folder_read(path)
    values = {
        "display_name": (display_name or name)[:120],
        "description": description,
        "architecture": facts.architecture,
        "task": facts.task,
        "chat_ready": facts.chat_ready,
        "context_length": facts.context_length,
        "parameters": facts.parameters,
        "vocab_size": facts.vocab_size,
        "vocabulary_hash": facts.vocabulary_hash,
        "shapes": facts.shapes,
        "licence": (licence or facts.licence)[:80],
        "source_path": str(path),
        "revision": facts.revision,
        "is_public": is_public,
        "is_stand_in": is_stand_in,
        "lora_ready": lora_ready and facts.task == "generate",
    }
    if org.adapters.filter(name=name).exclude(state="deleted").exists():
        raise KindlingError("name_taken", f"{org.slug}/{name} is an adapter already.", 409, param="name")
    model: Model | None = Model.objects.for_org(org).select_for_update(of=("self",)).filter(name=name).first()
    if model is None:
        model = Model.objects.create(organisation=org, name=name, **values)
    else:
        changed = {field: value for field, value in values.items() if getattr(model, field) != value}
        if not changed:
            return model
        # Sizes that were not kept when the model came are no other ones.
        sizes = {**facts.shapes, **model.shapes}
        reshaped = sizes != facts.shapes or changed.keys() & {"architecture", "task", "vocab_size"}
        # A tokenizer that was not known when the model came is no other one.
        renumbered = model.vocabulary_hash and "vocabulary_hash" in changed
        if reshaped or renumbered:
            _adapters_refuse(model, "shape" if reshaped else "tokenizer")
        for field, value in changed.items():
            setattr(model, field, value)
        model.save(update_fields=list(changed))
    data = {"ref": model.ref, "revision": facts.revision}
    audit_record(actor=actor, action="model.imported", target=model.id, organisation_id=org.id, data=data)
    return model


def _adapters_refuse(model: Model, other: str) -> None:
    """Adapters that may answer were made for what the model was."""
    standing = model.adapters.exclude(state__in=("deleted", "rejected")).select_related("organisation")
    names = [adapter.ref for adapter in standing[: NAMED_ADAPTERS + 1]]
    if not names:
        return
    shown = ", ".join(names[:NAMED_ADAPTERS]) + (", …" if len(names) > NAMED_ADAPTERS else "")
    text = (
        f"Adapters stand on {model.ref} ({shown}), and this model has another {other}. Rename its folder, which gives "
        "the model another name; or start with the former one and delete the adapters in the console."
    )
    raise KindlingError("model_changed", text, 409)


@transaction.atomic
def model_deployable_set(*, model_id: str, deployable: bool, actor: Actor) -> Model:
    """Open a model to deployments that organisations make for themselves, or close it to new ones.

    Raises:
        KindlingError: `not_found`.
    """
    model: Model | None = Model.objects.select_for_update(of=("self",)).filter(id=model_id).first()
    if model is None:
        raise not_found("model")
    if model.deployable != deployable:
        model.deployable = deployable
        model.save(update_fields=["deployable"])
        action = "model.opened" if deployable else "model.closed"
        audit_record(
            actor=actor, action=action, target=model.id, organisation_id=model.organisation_id,
            data={"ref": model.ref},
        )  # fmt: skip
    return model


def hub_download(*, repo_id: str, revision: str = "") -> Path:
    """Fetch a model from the Hugging Face Hub into HOME/models; gives its folder.

    A folder that is whole is taken as it is, unless another `revision` is asked for.

    Raises:
        KindlingError: `hub_not_found`, `hub_forbidden`, `hub_offline`, `disk_full`, `model_folder_invalid`.
    """
    target = model_target(settings.KINDLING_ENV.home / "models", repo_id)
    snapshot_fetch(repo_id=repo_id, target=target, revision=revision)
    return target


@transaction.atomic
def model_price_publish(
    *, model: Model, input_picousd: int, cached_input_picousd: int, output_picousd: int, actor: Actor
) -> PriceVersion:
    """Set what a model and its adapters cost from now on, in pico-dollars per token.

    Raises:
        KindlingError: `amount_invalid`.
    """
    old = price_current(sku=model.id)
    before = None if old is None else _per_token(old)
    try:
        price = price_publish(
            sku=model.id,
            input_picousd=input_picousd,
            cached_input_picousd=cached_input_picousd,
            output_picousd=output_picousd,
            created_by=actor.label,
        )
    except BillingError as error:
        raise KindlingError(error.code, error.message) from error
    audit_record(
        actor=actor,
        action="price.published",
        target=model.id,
        organisation_id=model.organisation_id,
        before=before,
        after=_per_token(price),
    )
    return price


def _per_token(price: PriceVersion) -> dict[str, int]:
    """A price as the audit log keeps it, in pico-dollars per token."""
    return {
        "input": price.input_picousd,
        "cached_input": price.cached_input_picousd,
        "output": price.output_picousd,
    }
