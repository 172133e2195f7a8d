"""The first start's rows: made once, brought up to date, never doubled."""

import dataclasses
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from kindling_billing.money import usd_to_pico
from kindling_billing.selectors import balance_get, price_list
from kindling_billing.services import UsageCharge, usage_post
from kindling_engine.starter import SPARK_PATH
from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.accounts.models import User
from kindling_platform.adapters.models import Adapter
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.embedded.bootstrap import OPERATOR_EMAIL, Bootstrap, bootstrap_run, model_name_from
from kindling_platform.embedded.secrets import secrets_read
from kindling_platform.keys import secret
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
KEY = secret.generate()


def run(model: str = "kindling/spark", **changed: str | Path | None) -> Bootstrap:
    changed |= {"bootstrap_api_key": KEY, "model": model}
    return bootstrap_run(dataclasses.replace(settings.KINDLING_ENV, **changed))


def test_first_run_makes_everything_a_start_needs():
    made = run()
    assert made.operator_email == OPERATOR_EMAIL and made.operator_password
    assert made.model == "kindling/spark"
    deployment = Deployment.objects.get(id=made.deployment_id)
    assert deployment.desired_state == "running" and deployment.model.is_stand_in
    (price,) = price_list(sku=deployment.model_id)
    assert (price.input_picousd, price.cached_input_picousd, price.output_picousd) == (
        100_000,
        50_000,
        400_000,
    )
    assert balance_get(owner_id=made.organisation_id).picousd == usd_to_pico("10")
    key = ApiKey.objects.get(digest=secret.digest(KEY, settings.KINDLING_ENV.key_pepper))
    assert set(key.scopes) == {"inference", "read", "manage"} and key.kind == "bootstrap"


def test_what_an_older_catalog_did_not_know_is_read_again(tmp_path: Path):
    folder = shutil.copytree(SPARK_PATH, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    assert run(str(folder)).surface == "completions"
    Model.objects.filter(name="base").update(
        chat_ready=True, is_public=False, description="Mine.", licence="mine"
    )
    assert run(str(folder)).surface == "completions" and run().surface == "chat"
    kept = Model.objects.get(name="base")
    assert (kept.is_public, kept.description, kept.licence, kept.chat_ready) == (
        False,
        "Mine.",
        "mine",
        False,
    )


def test_second_run_changes_nothing_and_shows_no_password():
    first = run()
    rows = (
        Model.objects.count(),
        Deployment.objects.count(),
        ApiKey.objects.count(),
        AuditEvent.objects.count(),
    )
    second = run()
    assert second == dataclasses.replace(first, operator_password=None)
    again = (
        Model.objects.count(),
        Deployment.objects.count(),
        ApiKey.objects.count(),
        AuditEvent.objects.count(),
    )
    assert again == rows
    assert balance_get(owner_id=first.organisation_id).picousd == usd_to_pico("10")


def test_a_key_that_somebody_revoked_is_made_anew_and_kept_for_later_starts(tmp_path: Path):
    secrets = tmp_path / "secrets.env"
    secrets.write_text(f"OTHER=kept\nKINDLING_BOOTSTRAP_API_KEY={KEY}\n")
    env = dataclasses.replace(settings.KINDLING_ENV, bootstrap_api_key=KEY, home=tmp_path)
    assert bootstrap_run(env).api_key == KEY
    old = ApiKey.objects.get()
    for over in ({"revoked_at": now()}, {"expires_at": now()}):
        ApiKey.objects.filter(id=old.id).update(**over)
        made = bootstrap_run(env).api_key
        assert made != env.bootstrap_api_key
        assert secrets_read(secrets) == {"OTHER": "kept", "KINDLING_BOOTSTRAP_API_KEY": made}
        env = dataclasses.replace(env, bootstrap_api_key=made)
        assert bootstrap_run(env).api_key == made
        old = ApiKey.objects.exclude(id=old.id).get(digest=secret.digest(made, env.key_pepper))
        assert old.revoked_at is None and old.kind == "bootstrap"
    assert ApiKey.objects.count() == 3


def test_a_revoked_key_that_the_environment_names_is_not_replaced(tmp_path: Path):
    run()
    ApiKey.objects.update(revoked_at=now())
    assert run(home=tmp_path).api_key == KEY
    assert ApiKey.objects.count() == 1 and not list(tmp_path.iterdir())


def test_a_start_is_proven_once_a_request_of_the_operators_was_billed():
    first = run()
    assert not first.is_proven
    usage_post([UsageCharge(owner_id=first.organisation_id, request_id="r1", cost_picousd=7, memo="")])
    assert run().is_proven


def test_spent_credit_is_given_again_once():
    org_id = run().organisation_id
    usage_post([UsageCharge(owner_id=org_id, request_id="r1", cost_picousd=usd_to_pico("9.5"), memo="")])
    run()
    run()
    assert balance_get(owner_id=org_id).picousd == usd_to_pico("10.5")


def test_the_form_of_the_weights_stays_unless_one_is_named():
    made = run()
    assert made.weights == "checkpoint"
    deployment_ensure(
        org=Deployment.objects.get().organisation, model=Model.objects.get(), name="spark", actor=SYSTEM,
        weights="int8wo", kv_dtype="fp8",
    )  # fmt: skip
    assert (run().weights, run().kv_dtype) == ("int8wo", "fp8")
    assert run(weights="checkpoint").weights == "checkpoint"
    assert run(kv_dtype="auto").kv_dtype == "auto"
    assert Deployment.objects.get().generation == 4


def test_other_model_is_served_instead_of_the_starter(tmp_path: Path):
    folder = tmp_path / "My Model!"
    shutil.copytree(SPARK_PATH, folder)
    spark = run()
    other = run(str(folder))
    assert other.model == "kindling/my-model"
    assert Deployment.objects.get(id=spark.deployment_id).desired_state == "stopped"
    assert Deployment.objects.get(id=other.deployment_id).model.source_path == str(folder)
    assert run().deployment_id == spark.deployment_id
    assert Deployment.objects.get(id=spark.deployment_id).desired_state == "running"


def test_what_else_is_to_run_is_named(tmp_path: Path):
    folder = shutil.copytree(SPARK_PATH, tmp_path / "a")
    assert run(str(folder)).also_running == {}
    other = shutil.copytree(SPARK_PATH, tmp_path / "b")
    assert run(str(other)).also_running == {"a": "kindling/a"}
    Deployment.objects.filter(name="a").update(desired_state="stopped")
    assert run(str(other)).also_running == {}


def test_what_failed_is_named_and_nobody_elses_to_stop(tmp_path: Path):
    """It may be the operator's own, and have failed for want of memory or of a disk."""
    folder = shutil.copytree(SPARK_PATH, tmp_path / "a")
    failed = run(str(folder)).deployment_id
    Deployment.objects.update(state="failed")
    assert run().also_running == {"a": "kindling/a"}
    assert Deployment.objects.get(id=failed).desired_state == "running"


def test_adapters_that_were_checked_against_other_files_are_counted_once(tmp_path: Path):
    folder = shutil.copytree(SPARK_PATH, tmp_path / "model")
    assert run(str(folder)).adapters_unchecked == 0
    model = Model.objects.get(name="model")
    for name, state in (("a", "ready"), ("b", "ready"), ("c", "deleted")):
        Adapter.objects.create(organisation=model.organisation, base=model, name=name, state=state)
    assert run(str(folder)).adapters_unchecked == 0
    (folder / "README.md").write_text("Trained anew.")
    assert run(str(folder)).adapters_unchecked == 2
    assert run(str(folder)).adapters_unchecked == 0


def test_folder_that_moved_is_followed(tmp_path: Path):
    folder = tmp_path / "a" / "model"
    shutil.copytree(SPARK_PATH, folder)
    first = run(str(folder))
    moved = tmp_path / "b" / "model"
    moved.parent.mkdir()
    folder.rename(moved)
    assert run(str(moved)).deployment_id == first.deployment_id
    assert Model.objects.get(name="model").source_path == str(moved)


def test_missing_folder_is_refused_by_name(tmp_path: Path):
    with pytest.raises(KindlingError) as refused:
        run(str(tmp_path / "nowhere"))
    assert refused.value.code == "model_folder_missing"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("/data/models/My Model/", "my-model"),
        ("org/--.--", "model"),
        ("a/" + "x" * 100, "x" * 64),
    ],
)
def test_names_in_the_catalog_come_from_the_last_part(wanted: str, name: str):
    assert model_name_from(wanted) == name


def test_reset_gives_a_password_that_works():
    run()
    out = StringIO()
    call_command("reset_operator", stdout=out)
    found = json.loads(out.getvalue())
    assert User.objects.get(email=found["operator_email"]).check_password(found["operator_password"])


def test_command_says_a_refusal_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    env = dataclasses.replace(settings.KINDLING_ENV, model=str(tmp_path / "nowhere"))
    monkeypatch.setattr(settings, "KINDLING_ENV", env)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("bootstrap", stdout=out)
    assert json.loads(out.getvalue())["error"]["code"] == "model_folder_missing"
