"""A world for the console's tests: people with organisations, a priced stand-in model, adapters, usage, an operator."""

import json
import secrets
import time
import uuid
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.test import Client

from kindling_billing.services import price_publish
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.accounts.services import operator_ensure, user_register
from kindling_platform.adapters.models import Adapter
from kindling_platform.catalog.models import Model
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import event_add, replica_observe
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.requestlog.seal import Said, Seal
from kindling_platform.usage.services import usage_ingest

INPUT, CACHED, OUTPUT = 100_000, 50_000, 400_000
SHAPES = {
    "hidden_size": 8, "num_layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 4, "intermediate_size": 16,
}  # fmt: skip
REPORT = {
    "findings": [
        {"check": "files", "level": "pass", "message": "Both files are there.", "fix": ""},
        {"check": "dtype", "level": "warn", "message": "Weights are float64.", "fix": "Save them as float32."},
    ],
    "rank": 8, "target_modules": ["q_proj", "v_proj"], "parameters": 1024, "dtype": "F32", "size_bytes": 4096,
}  # fmt: skip


@dataclass(slots=True)
class Member:
    """A signed-in person of an organisation."""

    user: User
    org: Organisation
    client: Client

    @property
    def actor(self) -> Actor:
        return Actor(id=self.user.id, label=self.user.email)

    def key(self, name: str = "laptop", **fields: Any) -> ApiKey:
        return key_create(org=self.org, name=name, scopes=["inference"], actor=self.actor, **fields)[0]

    def role(self, role: str) -> None:
        Membership.objects.filter(user=self.user).update(role=role)

    def again(self) -> "Member":
        """The same person in objects that no test has changed."""
        client = Client()
        client.cookies = deepcopy(self.client.cookies)
        return Member(User.objects.get(id=self.user.id), Organisation.objects.get(id=self.org.id), client)


@dataclass(slots=True)
class World:
    """The operator with a served model; customers are made as needed."""

    operator: Member
    model: Model
    price_id: str
    deployment: Deployment
    offsets: dict[str, int] = field(default_factory=dict)

    def member(self, name: str = "") -> Member:
        """A new customer with an organisation of their own."""
        email = f"{name or 'someone'}-{secrets.token_hex(3)}@example.com"
        return sign_in(user_register(email=email, password=secrets.token_hex(12)))

    def adapter(
        self, member: Member, *, name: str = "intent", state: str = "ready", **fields: Any
    ) -> Adapter:
        given = {"report": REPORT, "rank": 8, "size_bytes": 4096} | fields
        return Adapter.objects.create(
            organisation=member.org, base=self.model, name=name, state=state, **given
        )

    def use(
        self, member: Member, *, requests: int = 1, adapter: Adapter | None = None, **changes: Any
    ) -> list[str]:
        """Requests of a member, through the same ingest as real ones; 10 tokens in and 5 out each."""
        key_id = changes.pop("key_id", "") or member.key(f"key {secrets.token_hex(2)}").id
        return self.ingest([self._record(member, key_id, adapter, changes) for _ in range(requests)])

    def use_each(self, member: Member, each: list[dict[str, Any]]) -> list[str]:
        """A request for each of the changes of `use`, all ingested at once; of one key where none is named."""
        key_id = member.key(f"key {secrets.token_hex(2)}").id
        records = []
        for changes in each:
            other = dict(changes)
            named, adapter = other.pop("key_id", key_id), other.pop("adapter", None)
            records.append(self._record(member, named, adapter, other))
        return self.ingest(records)

    def ingest(self, records: list[UsageRecord]) -> list[str]:
        source = f"{self.deployment.id}-g1-r0"
        after = self.offsets.get(source, 0)
        self.offsets[source] = after + len(records)
        usage_ingest(
            source=source, log_id="6b1f3bd0-77f8-7000-8000-000000000001", after=after, records=records,
            next_offset=after + len(records),
        )  # fmt: skip
        return [record.request_id for record in records]

    def again(self) -> "World":
        """The same world in objects that no test has changed; what tests wrote is gone from the database by itself."""
        model, deployment = Model.objects.get(id=self.model.id), Deployment.objects.get(id=self.deployment.id)
        return World(self.operator.again(), model, self.price_id, deployment, dict(self.offsets))

    def _record(
        self, member: Member, key_id: str, adapter: Adapter | None, changes: dict[str, Any]
    ) -> UsageRecord:
        now_ms = int(time.time() * 1000)
        context = {
            "org": member.org.id, "key": key_id, "model": self.model.id, "deployment": self.deployment.id,
            "name": adapter.ref if adapter else self.model.ref, "adapter": adapter.id if adapter else "",
            "price": self.price_id,
        }  # fmt: skip
        plain: dict[str, Any] = {
            "request_id": str(uuid.uuid4()), "context": json.dumps(context), "tenant": member.org.id,
            "adapter": "", "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 5, "finish": "stop",
            "started_ms": now_ms - 60, "first_token_ms": now_ms - 40, "finished_ms": now_ms, "replica": "r",
        }  # fmt: skip
        return UsageRecord(**(plain | changes))


def request_keep(member: Member, said: Said | None = None) -> LoggedRequest:
    """A request of which prompt and answer are kept, as a gateway leaves it."""
    said = said or Said(b'{"messages": []}', b"{}", "application/json", 16, 2)
    request_id = uuid.uuid4()
    return LoggedRequest.objects.create(
        request_id=request_id, organisation_id=member.org.id, key_id="key_1", model_name="kindling/spark",
        route="chat", status=200, size_bytes=18, created_at=now(), expires_at=now() + timedelta(days=7),
        sealed=Seal(settings.SECRET_KEY).close(said, org_id=member.org.id, request_id=request_id),
    )  # fmt: skip


def sign_in(user: User) -> Member:
    """A browser session for a user."""
    client = Client()
    client.force_login(user)
    membership = Membership.objects.select_related("organisation").get(user=user)
    return Member(user, membership.organisation, client)


def make_world() -> World:
    """The operator, the stand-in model at its usual price, one live replica."""
    user, _ = operator_ensure(email="operator@example.com")
    operator = sign_in(user)
    model = Model.objects.create(
        organisation=operator.org, name="spark", display_name="Spark", description="A tiny stand-in.",
        architecture="LlamaForCausalLM", context_length=2048, parameters=1_000_000, vocab_size=2048, shapes=SHAPES,
        licence="Apache-2.0", source_path="/models/spark", revision="0" * 64, is_public=True, is_stand_in=True,
    )  # fmt: skip
    price = price_publish(
        sku=model.id, input_picousd=INPUT, cached_input_picousd=CACHED, output_picousd=OUTPUT
    )
    deployment = Deployment.objects.create(
        organisation=operator.org, model=model, name="spark", state="live", desired_replicas=1
    )
    replica_observe(
        deployment=deployment, name=f"{deployment.id}-g1-r0", generation=1, rank=0, state="ready",
        url="http://127.0.0.1:9", pid=42, ready_at=now(),
    )  # fmt: skip
    event_add(deployment=deployment, kind="live", message="It answers.")
    return World(operator, model, price.id, deployment)
