"""What a start needs in the database: operator, first model with a price, its deployment, the start's key.

Safe to run at every start. This module runs inside Django, in the process of the `bootstrap` command.
"""

from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from kindling_billing.money import usd_to_pico
from kindling_billing.selectors import balance_get, ledger_list_usage, price_current
from kindling_engine.starter import SPARK_NAME, SPARK_PATH
from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.accounts.credit import credit_give
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.accounts.selectors import organisation_get_for_user
from kindling_platform.accounts.services import operator_ensure
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.services import hub_download, model_import, model_price_publish
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.config.env import SECRETS_FILE, Env
from kindling_platform.deployments.selectors import deployment_list
from kindling_platform.deployments.services import deployment_ensure, deployment_start, deployment_stop
from kindling_platform.embedded.model_names import model_name_from
from kindling_platform.embedded.secrets import secret_replace, secrets_read
from kindling_platform.keys.models import SCOPES
from kindling_platform.keys.services import key_ensure

OPERATOR_EMAIL = "operator@kindling.local"
OPERATOR_CREDIT_USD = "10"
# Below this the operator's own organisation gets credit again, or a start could not prove itself.
LEAST_CREDIT_USD = "1"
START_KEY = "KINDLING_BOOTSTRAP_API_KEY"
SPARK_DESCRIPTION = (
    "A stand-in of one million parameters that comes with Kindling, so that everything works at once. "
    "It tells short stories, fills in JSON and gets facts wrong; serve a real model for real work."
)
INPUT_PICOUSD, CACHED_INPUT_PICOUSD, OUTPUT_PICOUSD = 100_000, 50_000, 400_000


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the start goes on with; the password is there only when the operator was made just now.

    `is_proven` says that a request of the operator's was billed before, which only a start that worked can do.
    `also_running` has the models of the operator's other deployments that are to run, by the deployments' names;
    `adapters_unchecked` is how many adapters were checked against other files than the model has now.
    """

    operator_email: str
    operator_password: str | None
    organisation_id: str
    model: str
    surface: str
    deployment_id: str
    weights: str
    kv_dtype: str
    api_key: str
    is_proven: bool
    also_running: dict[str, str]
    adapters_unchecked: int


def bootstrap_run(env: Env) -> Bootstrap:
    """Errors: KindlingError of the model's folder or download."""
    user, password = operator_ensure(email=OPERATOR_EMAIL)
    org = _operator_organisation(user)
    _credit_ensure(org)
    api_key = _start_key(org, env)
    spark, unchecked = _model_ensure(org, "spark", SPARK_PATH)
    model = spark
    if env.model != SPARK_NAME:
        model, unchecked = _chosen_model(org, env.model)
    deployment = deployment_ensure(
        org=org, model=model, name=model.name, actor=SYSTEM, weights=env.weights, kv_dtype=env.kv_dtype
    )
    deployment_start(org=org, deployment_id=deployment.id, actor=SYSTEM)
    if model.id != spark.id:
        _spark_stop(org, spark)
    return Bootstrap(
        operator_email=user.email,
        operator_password=password,
        organisation_id=org.id,
        model=model.ref,
        surface=model.surface,
        deployment_id=deployment.id,
        weights=deployment.weights,
        kv_dtype=deployment.kv_dtype,
        api_key=api_key,
        is_proven=ledger_list_usage(owner_id=org.id).exists(),
        also_running=_also_running(org, deployment.id),
        adapters_unchecked=unchecked,
    )


def model_enter(*, folder: Path, name: str) -> Model:
    """Put a folder into the operator's catalog, with a price. Errors: those of `model_import`."""
    user, _password = operator_ensure(email=OPERATOR_EMAIL)
    return _model_ensure(_operator_organisation(user), name, folder)[0]


def _operator_organisation(user: User) -> Organisation:
    found = organisation_get_for_user(user=user)
    if found is None:
        raise KindlingError("operator_without_organisation", "The operator belongs to no organisation.", 409)
    return found[0]


def _start_key(org: Organisation, env: Env) -> str:
    """The start's key, made anew when somebody revoked it; one that the environment names is not ours to replace."""
    text = env.bootstrap_api_key
    if not text:
        return ""
    file = env.home / SECRETS_FILE
    is_ours = secrets_read(file).get(START_KEY) == text
    # A file that was written for a row that never came is right: the next start makes the row.
    with transaction.atomic():
        used = key_ensure(org=org, name="Start", scopes=SCOPES, text=text, actor=SYSTEM, renew=is_ours)
        if used != text:
            secret_replace(file, START_KEY, used)
    return used


def _chosen_model(org: Organisation, wanted: str) -> tuple[Model, int]:
    folder = Path(wanted)
    if folder.is_absolute() and not folder.is_dir():
        raise KindlingError("model_folder_missing", f"KINDLING_MODEL names {wanted}, which is no folder.")
    name = model_name_from(wanted)
    return _model_ensure(org, name, folder if folder.is_dir() else hub_download(repo_id=wanted))


def _model_ensure(org: Organisation, name: str, folder: Path) -> tuple[Model, int]:
    """The model's row, brought up to date when its folder moved or changed, with a price; and how many adapters were
    checked against what it was before.
    """
    model = Model.objects.for_org(org).filter(name=name).first()
    facts = model_folder_read(folder)
    unchecked = 0
    if model is not None and model.revision != facts.revision:
        unchecked = model.adapters.filter(state="ready").count()
    now_said = (facts.revision, str(folder.resolve()))
    if model is not None and (model.revision, model.source_path) == now_said:
        # What an older catalog did not read; all else of the row may be somebody's choice.
        Model.objects.filter(id=model.id).exclude(chat_ready=facts.chat_ready).update(
            chat_ready=facts.chat_ready
        )
        model.refresh_from_db(fields=["chat_ready"])
    else:
        is_spark = folder == SPARK_PATH
        model = model_import(
            org=org,
            name=name,
            source_path=folder,
            actor=SYSTEM,
            display_name="Spark" if is_spark else folder.name if not model else model.display_name,
            description=SPARK_DESCRIPTION if is_spark else "",
            licence="apache-2.0" if is_spark else "",
            is_public=True,
            is_stand_in=is_spark,
        )
    if price_current(sku=model.id, at=now()) is None:
        model_price_publish(
            model=model,
            input_picousd=INPUT_PICOUSD,
            cached_input_picousd=CACHED_INPUT_PICOUSD,
            output_picousd=OUTPUT_PICOUSD,
            actor=SYSTEM,
        )
    return model, unchecked


def _credit_ensure(org: Organisation) -> None:
    balance = balance_get(owner_id=org.id)
    if balance.picousd < usd_to_pico(LEAST_CREDIT_USD):
        credit_give(
            org=org,
            amount_picousd=usd_to_pico(OPERATOR_CREDIT_USD),
            source_id=f"operator:{org.id}:{balance.version}",
            memo="The operator's own credit",
            actor=SYSTEM,
        )


def _also_running(org: Organisation, but: str) -> dict[str, str]:
    running = deployment_list(org=org).filter(desired_state="running").exclude(id=but).order_by("name")
    return {deployment.name: deployment.model.ref for deployment in running}


def _spark_stop(org: Organisation, spark: Model) -> None:
    """Another model was chosen to be served first: the starter gives its memory back."""
    for deployment in deployment_list(org=org):
        if deployment.model_id == spark.id and deployment.desired_state == "running":
            deployment_stop(org=org, deployment_id=deployment.id, actor=SYSTEM)
