"""Customers, keys, models and usage records in the test database."""

import itertools
import json
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from django.test import Client

from kindling_billing.models import PriceVersion
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_engine.starter import SPARK_PATH
from kindling_platform.accounts.actor import Actor, user_actor
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.accounts.selectors import organisation_get_for_user
from kindling_platform.accounts.services import operator_ensure, user_register
from kindling_platform.catalog import services as catalog
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.services import model_import, model_price_publish
from kindling_platform.common.ids import uuid7
from kindling_platform.keys.services import key_create

PASSWORD = "correct horse battery staple 7"
NUMBERS = itertools.count(1)
INPUT, CACHED, OUTPUT = 100_000, 50_000, 400_000
ALL_SCOPES = ("inference", "read", "manage")
# The starter model's files stay what they are.
spark_read = cache(model_folder_read)


@dataclass(frozen=True, slots=True)
class Customer:
    """A person and their organisation."""

    user: User
    org: Organisation

    @property
    def actor(self) -> Actor:
        return user_actor(self.user)

    def again(self) -> "Customer":
        """The same person in objects that no test has changed."""
        return Customer(User.objects.get(id=self.user.id), Organisation.objects.get(id=self.org.id))

    def key(self, *scopes: str) -> str:
        """The text of a new key with these scopes, all of them unless named."""
        _, text = key_create(org=self.org, name="test", scopes=scopes or ALL_SCOPES, actor=self.actor)
        return text

    def client(self, *scopes: str) -> "ApiClient":
        """A client of the control API that sends a key."""
        return ApiClient(HTTP_AUTHORIZATION=f"Bearer {self.key(*scopes)}")

    def browser(self) -> "ApiClient":
        """A client with this person's session."""
        client = ApiClient()
        client.force_login(self.user)
        return client


class ApiClient(Client):
    """Django's test client with JSON bodies and paths below /api/v1."""

    def call(self, method: str, path: str, body: Any = None, **headers: Any) -> Any:
        content = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return getattr(self, method.lower())(f"/api/v1/{path}", **content, **headers)

    def send(
        self, path: str, content: bytes, *, content_range: str = "", kind: str = "application/octet-stream"
    ) -> Any:
        headers = {"HTTP_CONTENT_RANGE": content_range} if content_range else {}
        return self.put(f"/api/v1/{path}", data=content, content_type=kind, **headers)


def make_customer(name: str = "") -> Customer:
    user = user_register(email=f"{name or 'person'}{next(NUMBERS)}@example.test", password=PASSWORD)
    return Customer(user, organisation_get_for_user(user=user)[0])


def make_operator() -> Customer:
    user, _ = operator_ensure(email="operator@kindling.local")
    return Customer(user, organisation_get_for_user(user=user)[0])


def make_model(owner: Customer, name: str = "spark", *, is_public: bool = True, priced: bool = True) -> Model:
    with patch.object(catalog, "model_folder_read", spark_read):
        model = model_import(
            org=owner.org, name=name, source_path=SPARK_PATH, is_public=is_public, actor=owner.actor
        )
    if priced:
        make_price(model, owner.actor)
    return model


def make_price(model: Model, actor: Actor) -> PriceVersion:
    return model_price_publish(
        model=model, input_picousd=INPUT, cached_input_picousd=CACHED, output_picousd=OUTPUT, actor=actor
    )


def make_record(
    org_id: str,
    model: Model,
    price: PriceVersion,
    *,
    request_id: str = "",
    context: str | None = None,
    batch: bool = False,
    **changes: Any,
) -> UsageRecord:
    facts: dict[str, Any] = {
        "org": org_id, "key": "key_1", "model": model.id, "name": model.ref, "adapter": "", "deployment": "dep_1",
        "price": price.id,
    } | ({"batch": True} if batch else {})  # fmt: skip
    values: dict[str, Any] = {
        "request_id": request_id or str(uuid7()), "context": json.dumps(facts) if context is None else context,
        "tenant": org_id, "adapter": "", "prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5,
        "finish": "stop", "started_ms": 1_790_000_000_000, "first_token_ms": 1_790_000_000_010,
        "finished_ms": 1_790_000_000_050, "replica": "dep_1-g1-r0",
    }  # fmt: skip
    return UsageRecord(**values | changes)
