"""What requests and answers look like. Plain serializers: they describe and convert, and decide nothing."""

from typing import Any

from rest_framework import serializers as s

from kindling_engine.protocol.kv_dtypes import AUTO, KV_DTYPES
from kindling_engine.protocol.weight_forms import CHECKPOINT, WEIGHT_FORMS
from kindling_platform.adapters.hub_source import MAX_ID_CHARS, MAX_REVISION_CHARS, MAX_TOKEN_CHARS
from kindling_platform.api.strict import StrictShape


class PriceShape(s.Serializer[object]):
    id = s.CharField()
    input_picousd = s.CharField(help_text="Pico-dollars per token.")
    cached_input_picousd = s.CharField()
    output_picousd = s.CharField()
    input_usd_per_million = s.CharField()
    cached_input_usd_per_million = s.CharField()
    output_usd_per_million = s.CharField()
    reasoning_picousd = s.CharField(allow_null=True, help_text="Null: reasoning costs what output does.")
    reasoning_usd_per_million = s.CharField(allow_null=True)


class FileShape(s.Serializer[object]):
    name = s.CharField()
    size_bytes = s.IntegerField()
    received_bytes = s.IntegerField()


class ArrivedShape(FileShape):
    sha256 = s.CharField(help_text="Of the `received_bytes` bytes that are there, as hexadecimal digits.")


class AdapterShape(s.Serializer[object]):
    id = s.CharField()
    name = s.CharField()
    ref = s.CharField()
    base_model = s.CharField()
    hub_id = s.CharField(help_text="The repository on the Hugging Face Hub that it comes from, or empty.")
    hub_commit = s.CharField(help_text="The commit of that, once it is known.")
    state = s.ChoiceField(choices=["uploading", "validating", "rejected", "ready"])
    reason = s.CharField()
    rank = s.IntegerField(allow_null=True)
    size_bytes = s.IntegerField()
    content_hash = s.CharField()
    error_code = s.CharField()
    error = s.CharField()
    files = FileShape(many=True)
    report = s.DictField()
    created_at = s.DateTimeField()
    ready_at = s.DateTimeField(allow_null=True)


class AliasShape(s.Serializer[object]):
    alias = s.CharField()
    target = s.CharField(help_text="The full name of what it stands for.")
    created_at = s.DateTimeField()


class AliasSetShape(StrictShape):
    alias = s.CharField(max_length=200)
    target = s.CharField(max_length=200)


class FileClaimShape(StrictShape):
    name = s.CharField(max_length=200)
    size_bytes = s.IntegerField()


class AdapterCreateShape(StrictShape):
    name = s.CharField(max_length=200)
    base_model = s.CharField(max_length=200)
    files = s.ListField(child=FileClaimShape(), required=False, max_length=64)
    hub_id = s.CharField(
        required=False,
        max_length=MAX_ID_CHARS,
        help_text="In place of files: the repository on the Hugging Face Hub, as owner/name, that a worker fetches "
        "them from. Follow `state`; there is nothing to complete.",
    )
    revision = s.CharField(
        required=False,
        max_length=MAX_REVISION_CHARS,
        help_text="Of `hub_id`: a branch, a tag or a commit; main.",
    )
    hub_token = s.CharField(
        required=False,
        max_length=MAX_TOKEN_CHARS,
        write_only=True,
        help_text="Of `hub_id`: a token that may read it, if it is private or gated. It is kept sealed until the files "
        "are here, and then forgotten.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Raises ValidationError for fields that say nothing beside or without `hub_id`."""
        of_the_other = ("files",) if "hub_id" in attrs else ("revision", "hub_token")
        for name in of_the_other:
            if attrs.get(name):
                with_it = "beside" if name == "files" else "without"
                raise s.ValidationError({name: f"It says nothing {with_it} hub_id; leave it out."})
        return attrs


class ReplicaShape(s.Serializer[object]):
    name = s.CharField()
    state = s.CharField()
    reason = s.CharField()
    restarts = s.IntegerField()
    ready_at = s.DateTimeField(allow_null=True)


class DeploymentShape(s.Serializer[object]):
    id = s.CharField()
    name = s.CharField()
    model = s.CharField()
    desired_state = s.CharField()
    desired_replicas = s.IntegerField()
    ready_replicas = s.IntegerField()
    weights = s.CharField(help_text="How they lie in memory: checkpoint is as the checkpoint has them.")
    kv_dtype = s.CharField(help_text="What keys and values are kept as: auto is as the model computes.")
    state = s.CharField()
    reason = s.CharField()
    generation = s.IntegerField()
    self_made = s.BooleanField(help_text="Whether your organisation made it, and so may change it.")
    replicas = ReplicaShape(many=True)
    created_at = s.DateTimeField()


class DeploymentCreateShape(StrictShape):
    name = s.CharField(max_length=200)
    model = s.CharField(max_length=200)
    replicas = s.IntegerField(required=False, default=1)
    weights = s.ChoiceField(
        choices=WEIGHT_FORMS,
        required=False,
        default=CHECKPOINT,
        help_text="How they lie in memory: fp16 and int8wo, half and a quarter of fp32, are for CPUs, fp8 for Hopper.",
    )
    kv_dtype = s.ChoiceField(
        choices=KV_DTYPES,
        required=False,
        default=AUTO,
        help_text="fp8 keeps keys and values in a byte each: twice as many tokens fit on a GPU.",
    )
    organisation = s.CharField(
        max_length=64,
        required=False,
        default="",
        help_text="For the operator: whose it is, by slug or id. Another organisation pays for its hours.",
    )


class DeploymentChangeShape(StrictShape):
    replicas = s.IntegerField(
        required=False, help_text="More are started, those of the highest ranks drained."
    )
    weights = s.ChoiceField(
        choices=WEIGHT_FORMS, required=False, help_text="Another form: every replica is started anew."
    )
    kv_dtype = s.ChoiceField(choices=KV_DTYPES, required=False, help_text="Likewise.")


class AllowanceShape(s.Serializer[object]):
    replicas = s.IntegerField(help_text="How many of deployments that you make yourselves may run at once.")
    running = s.IntegerField()
    left = s.IntegerField()
    runs_on = s.CharField(
        help_text="The GPUs or the processor by name; empty while the machine does not say."
    )


class SettingChangeShape(s.Serializer[object]):
    name = s.ChoiceField(choices=["model", "replicas", "weights", "kv_dtype"])
    before = s.CharField()
    after = s.CharField()


class RevisionShape(s.Serializer[object]):
    number = s.IntegerField()
    model = s.CharField()
    replicas = s.IntegerField()
    weights = s.CharField()
    kv_dtype = s.CharField()
    changes = SettingChangeShape(many=True, help_text="What it set otherwise than the revision before.")
    is_current = s.BooleanField(help_text="Whether the deployment is set so now.")
    restored = s.IntegerField(allow_null=True, help_text="The revision that was brought back by this one.")
    created_by = s.CharField()
    created_at = s.DateTimeField()


class RevisionsShape(s.Serializer[object]):
    data = RevisionShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class RestoreShape(StrictShape):
    revision = s.IntegerField(min_value=1, help_text="Its number.")


class EventShape(s.Serializer[object]):
    id = s.CharField()
    kind = s.CharField()
    message = s.CharField()
    created_at = s.DateTimeField()


class KeyShape(s.Serializer[object]):
    id = s.CharField()
    name = s.CharField()
    prefix = s.CharField()
    last4 = s.CharField()
    scopes = s.ListField(child=s.CharField())
    kind = s.CharField()
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField(allow_null=True)
    revoked_at = s.DateTimeField(allow_null=True)
    last_used_at = s.DateTimeField(allow_null=True)
    created_by = s.CharField(allow_null=True)
    models = s.ListField(
        child=s.CharField(), allow_null=True, help_text="What it may call; null is every model."
    )
    family = s.CharField(allow_null=True, help_text="The first key of those that were rotated into this one.")


class KeyMadeShape(KeyShape):
    key = s.CharField(help_text="The key itself; it is not shown again.")


class KeyCreateShape(StrictShape):
    name = s.CharField(max_length=200)
    scopes = s.ListField(child=s.CharField(max_length=32), default=["inference"])
    expires_at = s.DateTimeField(required=False, allow_null=True, default=None)
    models = s.ListField(
        child=s.CharField(max_length=120), required=False, allow_null=True, default=None, max_length=100,
        help_text="What it may call, as <organisation>/<name>; left out: every model.",
    )  # fmt: skip


class KeyRotateShape(StrictShape):
    overlap_s = s.IntegerField(
        default=86_400, min_value=0, max_value=30 * 86_400, help_text="How long the old key goes on."
    )


class KeepingShape(s.Serializer[object]):
    retention_days = s.IntegerField()
    stored = s.IntegerField()


class KeepingChangeShape(StrictShape):
    told = ("stored",)
    retention_days = s.IntegerField(min_value=0, max_value=365)


class FeedbackShape(s.Serializer[object]):
    score = s.FloatField(allow_null=True)
    label = s.CharField()  # type: ignore[assignment]  # the metaclass takes it out of the class


class UsageEventShape(s.Serializer[object]):
    request_id = s.CharField()
    model = s.CharField()
    model_id = s.CharField()
    adapter_id = s.CharField()
    key_id = s.CharField()
    deployment_id = s.CharField()
    prompt_tokens = s.IntegerField()
    cached_tokens = s.IntegerField()
    completion_tokens = s.IntegerField()
    reasoning_tokens = s.IntegerField(help_text="Of the completion's.")
    batch = s.BooleanField(help_text="Whether it paid the price of batch work.")
    finish = s.CharField()
    billable = s.BooleanField()
    price_version_id = s.CharField()
    cost_picousd = s.CharField()
    cost_usd = s.CharField()
    started_at = s.DateTimeField()
    first_token_at = s.DateTimeField(allow_null=True)
    finished_at = s.DateTimeField()


class OneUsageEventShape(UsageEventShape):
    feedback = FeedbackShape(allow_null=True)


class BalanceShape(s.Serializer[object]):
    balance_picousd = s.CharField()
    balance_usd = s.CharField()


class LedgerLineShape(s.Serializer[object]):
    id = s.IntegerField()
    transaction_id = s.CharField()
    source_type = s.CharField()
    source_id = s.CharField()
    memo = s.CharField()
    amount_picousd = s.CharField()
    amount_usd = s.CharField()
    posted_at = s.DateTimeField()


class OrganisationShape(s.Serializer[object]):
    id = s.CharField()
    slug = s.CharField()
    name = s.CharField()
    mfa_required = s.BooleanField(help_text="Whether every member needs a second factor; keys need none.")


class OrganisationChangeShape(StrictShape):
    mfa_required = s.BooleanField(
        help_text="Whether every member needs an authenticator app or a passkey. Who switches it on has one."
    )


class PersonShape(s.Serializer[object]):
    id = s.CharField()
    email = s.EmailField()
    name = s.CharField()


class MeShape(s.Serializer[object]):
    organisation = OrganisationShape()
    user = PersonShape(allow_null=True)
    role = s.CharField(allow_null=True)
    key_id = s.CharField(allow_null=True)
    scopes = s.ListField(child=s.CharField())


class FindingShape(s.Serializer[object]):
    check = s.CharField()
    level = s.ChoiceField(choices=["pass", "warn", "fail"])
    message = s.CharField()
    fix = s.CharField()


class ReportShape(s.Serializer[object]):
    state = s.CharField()
    findings = FindingShape(many=True)
    report = s.DictField()


class FilesShape(s.Serializer[object]):
    data = FileShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class ReplicaLogShape(s.Serializer[object]):
    name = s.CharField()
    rank = s.IntegerField()
    text = s.CharField(help_text="Its last lines.")
    problem = s.CharField(help_text="Why they cannot be had, else empty.")


class ReplicaLogsShape(s.Serializer[object]):
    data = ReplicaLogShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class EventsShape(s.Serializer[object]):
    data = EventShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class
