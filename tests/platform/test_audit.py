"""Every service that changes something leaves a trace, and the trace cannot be wiped."""

import ast
import importlib
import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from kindling_engine.starter import ADAPTER_PATHS, SPARK_PATH
from kindling_hooks import hook
from kindling_people import PASSWORD, Customer, make_customer, make_model
from kindling_platform.accounts.credit import credit_give, signup_credit_grant
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.accounts.services import (
    operator_ensure,
    operator_password_reset,
    organisation_create,
    organisation_rename,
    user_register,
    user_rename,
    user_settle,
    user_shortcuts_set,
)
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.services import (
    adapter_complete,
    adapter_create,
    adapter_delete,
    adapter_file_put,
    adapter_validation_store,
    upload_list_expire,
)
from kindling_platform.audit.models import AuditEvent
from kindling_platform.batches.beginning import batch_begin, batch_id_make
from kindling_platform.batches.services import batch_cancel, batch_file_open
from kindling_platform.catalog.services import model_deployable_set, model_import, model_price_publish
from kindling_platform.common import leases
from kindling_platform.common.clock import now
from kindling_platform.common.ids import new_id
from kindling_platform.departures.exports import personal_data_export
from kindling_platform.departures.organisations import organisation_clear, organisation_delete
from kindling_platform.departures.persons import user_delete
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_create,
    deployment_delete,
    deployment_ensure,
    deployment_halt,
    deployment_restore,
    deployment_start,
    deployment_stop,
)
from kindling_platform.hooks.services import (
    Wanted,
    delivery_again,
    endpoint_change,
    endpoint_delete,
    endpoint_rotate,
    endpoint_secret_show,
    endpoint_test,
)
from kindling_platform.keys.secret import generate
from kindling_platform.keys.services import key_create, key_ensure, key_revoke, key_rotate
from kindling_platform.responses.sharing import conversation_revoke
from kindling_platform.status.services import (
    Written,
    notice_end,
    notice_update,
    notice_withdraw,
    notice_write,
)
from kindling_shared import shared
from kindling_stored_batches import stored_batch, stored_file

pytestmark = pytest.mark.django_db
GOING = ("departures.organisations", "departures.persons", "departures.exports", "responses.sharing")
ROOMS = ("accounts", "keys", "catalog", "adapters", "deployments", "usage", "batches", "status", "hooks")
FILES = {
    path.name: path.read_bytes() for path in Path(ADAPTER_PATHS["intent"]).iterdir() if path.suffix != ".md"
}
# What machines note about machines, and steps of something that is audited as a whole.
OBSERVATIONS = {
    "keys.key_touch": "the time of a key's last use, from the usage log",
    "usage.usage_ingest": "its trace is the usage event and the ledger",
    "usage.cursor_get": "reads",
    "usage.records_book": "its trace is the usage event and the ledger",
    "usage.records_park": "its trace is the parked record",
    "usage.charge_of": "pure",
    "accounts.signup_credit_claims": "signup_credit_grant, which is audited",
    "accounts.signup_credit_claim": "the same",
    "accounts.address_confirmed": "the same",
    "deployments.deployment_lease": "a worker's lease",
    "deployments.deployment_apply": "an observation, kept as a deployment's event",
    "deployments.replica_observe": "an observation, kept as a deployment's event",
    "deployments.replica_forget": "an observation",
    "deployments.event_add": "a deployment's own log",
    "adapters.adapter_file_put": "bytes of an upload whose creation and completion are audited",
    "adapters.adapter_validation_postpone": "a worker's lease",
    "adapters.adapter_content_note": "a step of a validation, whose outcome is audited",
    "catalog.hub_download": "files on the disk; entering them is audited",
    "keys.pepper_id": "pure",
    "batches.batch_id_make": "pure",
    "batches.batches_purge": "deletes what is old",
    "batches.batches_delete": "a step of a deletion, which is audited",
    "responses.conversation_shared_open": "reads",
    "responses.shared_list": "reads",
    "responses.shared_get": "reads",
    "responses.shared_told": "reads",
    "responses.shared_title": "reads",
    "departures.organisations_clear": "organisation_clear, which is audited",
    "departures.cards_forget_late": "cards_detach, which is audited",
    "departures.place_list": "reads",
    "departures.origins_forget": "a step of a deletion, which is audited",
}


def public_services() -> set[str]:
    """`room.function` of every public function in a services module."""
    found = set()
    for name in [*(f"{room}.services" for room in ROOMS), "accounts.credit", "batches.beginning", *GOING]:
        room = name.split(".")[0]
        module = importlib.import_module(f"kindling_platform.{name}")
        tree = ast.parse(inspect.getsource(module))
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        found |= {f"{room}.{function}" for function in functions if not function.startswith("_")}
    return found


def upload(owner: Customer, base: str) -> Adapter:
    files: Any = [{"name": name, "size_bytes": len(data)} for name, data in FILES.items()]
    adapter = adapter_create(org=owner.org, name="mine", base_ref=base, files=files, actor=owner.actor)
    for name, data in FILES.items():
        adapter_file_put(org=owner.org, adapter_id=adapter.id, name=name, blocks=[data], actor=owner.actor)
    return adapter


def validated(owner: Customer, base: str) -> None:
    adapter = upload(owner, base)
    adapter_complete(org=owner.org, adapter_id=adapter.id, actor=owner.actor)
    token = leases.lease_take(Adapter.objects, pk=adapter.id, ttl_s=5)
    assert token
    assert adapter_validation_store(adapter_id=adapter.id, token=token, report={}, content_hash="f" * 64)


def expired(owner: Customer, base: str) -> None:
    adapter = upload(owner, base)
    assert upload_list_expire() == []
    assert upload_list_expire(idle_s=0) == [adapter.id]


def deployed(owner: Customer) -> Deployment:
    return deployment_ensure(org=owner.org, model=make_model(owner), name="d", actor=owner.actor)


def new_user() -> User:
    user = User(email="new@example.test")
    user.set_password(PASSWORD)
    return user


def operator_of_another_time(user: User) -> None:
    """The one there was has lost the powers, so whoever owns the operator's organisation gets them."""
    User.objects.filter(id=user.id).update(is_superuser=False)
    operator_ensure(email="other@example.test")


def going() -> Customer:
    """Somebody with an organisation that may be deleted; the operator's may not."""
    return make_customer("going")


def organisation_gone() -> None:
    one = going()
    organisation_delete(org=one.org, typed=one.org.slug, actor=one.actor)
    Organisation.objects.filter(id=one.org.id).update(deleting_at=now() - timedelta(minutes=1))
    assert organisation_clear(org=one.org)


def account_gone() -> None:
    one = going()
    user_delete(user=one.user, typed=one.user.email, keep_keys=False, actor=one.actor)


def noticed(operator: Customer) -> str:
    given = Written("Slow", "We look into it.", "limited")
    return notice_write(notice_id=new_id("ntc"), written=given, actor=operator.actor)[0].id


WORKS: dict[str, Callable[[Customer], object]] = {
    "accounts.user_register": lambda c: user_register(email="x@example.test", password=PASSWORD),
    "accounts.user_settle": lambda c: user_settle(user=new_user()),
    "accounts.user_rename": lambda c: user_rename(user=c.user, name="Ada", actor=c.actor),
    "accounts.user_shortcuts_set": lambda c: user_shortcuts_set(user=c.user, enabled=False, actor=c.actor),
    "accounts.organisation_create": lambda c: organisation_create(name="Two", owner=c.user, actor=c.actor),
    "accounts.organisation_rename": lambda c: organisation_rename(org=c.org, name="Two", actor=c.actor),
    "accounts.operator_ensure": lambda c: operator_of_another_time(c.user),
    "accounts.operator_password_reset": lambda c: operator_password_reset(email=c.user.email),
    "accounts.credit_give": lambda c: credit_give(
        org=c.org, amount_picousd=5, source_id="gift", memo="Sorry", actor=c.actor
    ),
    "accounts.signup_credit_grant": lambda c: signup_credit_grant(org=c.org, user=c.user),
    "keys.key_create": lambda c: c.key(),
    "keys.key_ensure": lambda c: key_ensure(
        org=c.org, name="start", scopes=["read"], text=generate(), actor=c.actor
    ),
    "keys.key_revoke": lambda c: key_revoke(
        org=c.org,
        key_id=key_create(org=c.org, name="k", scopes=["read"], actor=c.actor)[0].id,
        actor=c.actor,
    ),
    "keys.key_rotate": lambda c: key_rotate(
        org=c.org,
        key_id=key_create(org=c.org, name="k", scopes=["read"], actor=c.actor)[0].id,
        overlap=timedelta(hours=1),
        actor=c.actor,
    ),
    "catalog.model_import": lambda c: model_import(org=c.org, name="m", source_path=SPARK_PATH, actor=c.actor),
    "catalog.model_price_publish": lambda c: model_price_publish(
        model=make_model(c, "priced", priced=False), input_picousd=1, cached_input_picousd=1, output_picousd=1,
        actor=c.actor,
    ),
    "catalog.model_deployable_set": lambda c: model_deployable_set(
        model_id=make_model(c).id, deployable=True, actor=c.actor
    ),
    "adapters.adapter_create": lambda c: upload(c, make_model(c).ref),
    "adapters.adapter_complete": lambda c: adapter_complete(
        org=c.org, adapter_id=upload(c, make_model(c).ref).id, actor=c.actor
    ),
    "adapters.adapter_delete": lambda c: adapter_delete(
        org=c.org, adapter_id=upload(c, make_model(c).ref).id, actor=c.actor
    ),
    "adapters.adapter_validation_store": lambda c: validated(c, make_model(c).ref),
    "adapters.upload_list_expire": lambda c: expired(c, make_model(c).ref),
    "deployments.deployment_ensure": lambda c: deployment_ensure(
        org=c.org, model=make_model(c), name="d", actor=c.actor
    ),
    "deployments.deployment_create": lambda c: deployment_create(
        org=c.org, model_ref=make_model(c).ref, name="d", actor=c.actor
    ),
    "deployments.deployment_change": lambda c: deployment_change(
        org=c.org, deployment_id=deployed(c).id, replicas=2, actor=c.actor
    ),
    "deployments.deployment_restore": lambda c: changed_back(c),
    "deployments.deployment_delete": lambda c: deployment_delete(
        org=c.org, deployment_id=deployed(c).id, actor=c.actor
    ),
    "deployments.deployment_start": lambda c: start_and_stop(c),
    "deployments.deployment_stop": lambda c: start_and_stop(c),
    "deployments.deployment_halt": lambda c: deployment_halt(
        deployment_id=deployed(c).id, reason="No credit."
    ),
    "batches.batch_begin": lambda c: batch_begin(
        org=c.org, batch_id=batch_id_make(), key_id="key_1", key_digest=b"d", endpoint="/v1/chat/completions",
        filename="in.jsonl", pieces=[b"{}"], actor=c.actor,
    ),
    "batches.batch_cancel": lambda c: batch_cancel(org=c.org, batch_id=stored_batch(c.org).id, actor=c.actor),
    "batches.batch_file_open": lambda c: batch_file_open(
        org=c.org, file_id=stored_file(c.org, b"{}").id, actor=c.actor
    ),
    "responses.conversation_share": lambda c: shared(c),
    "responses.conversation_revoke": lambda c: conversation_revoke(
        org=c.org, share_id=shared(c).id, actor=c.actor, of_anyone=False
    ),
    "status.notice_write": lambda c: noticed(c),
    "status.notice_update": lambda c: notice_update(notice_id=noticed(c), text="More.", actor=c.actor),
    "status.notice_end": lambda c: notice_end(notice_id=noticed(c), actor=c.actor),
    "status.notice_withdraw": lambda c: notice_withdraw(notice_id=noticed(c), actor=c.actor),
    "hooks.endpoint_create": lambda c: hook(c),
    "hooks.endpoint_change": lambda c: endpoint_change(
        org=c.org, endpoint_id=hook(c)[0].id, wanted=Wanted(enabled=False), actor=c.actor
    ),
    "hooks.endpoint_delete": lambda c: endpoint_delete(org=c.org, endpoint_id=hook(c)[0].id, actor=c.actor),
    "hooks.endpoint_rotate": lambda c: endpoint_rotate(org=c.org, endpoint_id=hook(c)[0].id, actor=c.actor),
    "hooks.endpoint_secret_show": lambda c: endpoint_secret_show(
        org=c.org, endpoint_id=hook(c)[0].id, actor=c.actor
    ),
    "hooks.endpoint_test": lambda c: endpoint_test(org=c.org, endpoint_id=hook(c)[0].id, actor=c.actor),
    "hooks.delivery_again": lambda c: sent_again(c),
    "departures.organisation_delete": lambda c: organisation_gone(),
    "departures.organisation_clear": lambda c: organisation_gone(),
    "departures.user_delete": lambda c: account_gone(),
    "departures.personal_data_export": lambda c: personal_data_export(user=c.user, settings={}, actor=c.actor),
}  # fmt: skip


def changed_back(owner: Customer) -> None:
    found = deployed(owner)
    for act, what in ((deployment_change, {"replicas": 2}), (deployment_restore, {"number": 1})):
        act(org=owner.org, deployment_id=found.id, actor=owner.actor, **what)


def sent_again(owner: Customer) -> None:
    given: Any = {"org": owner.org, "endpoint_id": hook(owner)[0].id, "actor": owner.actor}
    delivery_again(delivery_id=endpoint_test(**given).id, **given)


def start_and_stop(owner: Customer) -> None:
    found = deployment_ensure(org=owner.org, model=make_model(owner), name="d", actor=owner.actor)
    deployment_stop(org=owner.org, deployment_id=found.id, actor=owner.actor)
    deployment_start(org=owner.org, deployment_id=found.id, actor=owner.actor)


EXPECTED = {
    "accounts.user_register": "user.registered",
    "accounts.user_settle": "user.registered",
    "accounts.user_rename": "user.renamed",
    "accounts.user_shortcuts_set": "user.shortcuts_set",
    "accounts.organisation_create": "organisation.created",
    "accounts.organisation_rename": "organisation.renamed",
    "accounts.operator_ensure": "operator.ensured",
    "accounts.operator_password_reset": "operator.password_reset",
    "accounts.credit_give": "credit.granted",
    "accounts.signup_credit_grant": "credit.granted",
    "keys.key_create": "key.created",
    "keys.key_ensure": "key.created",
    "keys.key_revoke": "key.revoked",
    "keys.key_rotate": "key.rotated",
    "catalog.model_import": "model.imported",
    "catalog.model_price_publish": "price.published",
    "catalog.model_deployable_set": "model.opened",
    "adapters.adapter_create": "adapter.create",
    "adapters.adapter_complete": "adapter.complete",
    "adapters.adapter_delete": "adapter.delete",
    "adapters.adapter_validation_store": "adapter.ready",
    "adapters.upload_list_expire": "adapter.delete",
    "deployments.deployment_ensure": "deployment.create",
    "deployments.deployment_create": "deployment.create",
    "deployments.deployment_start": "deployment.running",
    "deployments.deployment_stop": "deployment.stopped",
    "deployments.deployment_change": "deployment.change",
    "deployments.deployment_restore": "deployment.restored",
    "deployments.deployment_delete": "deployment.deleted",
    "deployments.deployment_halt": "deployment.halted",
    "batches.batch_begin": "batch.begin",
    "batches.batch_cancel": "batch.cancel",
    "batches.batch_file_open": "batch_file.open",
    "responses.conversation_share": "conversation.shared",
    "responses.conversation_revoke": "conversation.revoked",
    "status.notice_write": "notice.written",
    "status.notice_update": "notice.updated",
    "status.notice_end": "notice.ended",
    "status.notice_withdraw": "notice.withdrawn",
    "hooks.endpoint_create": "webhook.created",
    "hooks.endpoint_change": "webhook.changed",
    "hooks.endpoint_delete": "webhook.deleted",
    "hooks.endpoint_rotate": "webhook.rotated",
    "hooks.endpoint_secret_show": "webhook.secret_shown",
    "hooks.endpoint_test": "webhook.tested",
    "hooks.delivery_again": "webhook.sent_again",
    "departures.organisation_delete": "organisation.delete_begun",
    "departures.organisation_clear": "organisation.deleted",
    "departures.user_delete": "user.deleted",
    "departures.personal_data_export": "user.data_exported",
}


def test_every_service_is_either_audited_or_named_as_an_observation():
    assert public_services() == WORKS.keys() | OBSERVATIONS.keys()
    assert WORKS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", WORKS)
def test_a_change_leaves_a_trace(operator: Customer, name: str):
    before = set(AuditEvent.objects.values_list("id", flat=True))
    WORKS[name](operator)
    added = AuditEvent.objects.exclude(id__in=before)
    assert EXPECTED[name] in {event.action for event in added}
    assert all(event.actor_label and event.target for event in added)


def test_no_secret_is_in_the_log(operator: Customer):
    text = operator.key()
    said = " ".join(str(event.data) + event.target for event in AuditEvent.objects.all())
    assert text not in said
    assert text[12:-4] not in said


@pytest.mark.parametrize("statement", ["UPDATE {} SET action = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_log_cannot_be_changed(statement: str):
    make_customer()
    table = AuditEvent._meta.db_table
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_not_emptied")
        cursor.execute(statement.format(table))
