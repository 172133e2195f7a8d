"""A large customer of the bench: people with keys, models and adapters, and the requests of ninety days."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.accounts.services import organisation_create, user_register
from kindling_platform.adapters.models import Adapter
from kindling_platform.catalog.models import Model
from kindling_platform.common.actors import Actor
from kindling_platform.keys.services import key_create

DAYS = 90
PEOPLE, KEYS, MODELS, ADAPTERS = 6, 60, 5, 24
CHUNK = 500_000
# A few keys are used much. Each has a model and now and then a second one, with its adapter or, in a third, without.
REQUESTS = """
    INSERT INTO usage_usageevent (request_id, organisation_id, key_id, model_id, model_name, adapter_id, adapter_hash,
        deployment_id, replica_name, prompt_tokens, cached_tokens, completion_tokens, finish, billable,
        price_version_id, cost_picousd, started_at, first_token_at, finished_at)
    SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, %(org)s, (%(keys)s::text[])[k + 1], m,
        'bench', a, '', '', 'bench', prompt, prompt / 3, made, finish, finish <> 'error', '',
        CASE WHEN finish = 'error' THEN 0 ELSE prompt * 100000::bigint + made * 400000::bigint END,
        at - made * interval '12 milliseconds' - interval '200 milliseconds', at - made * interval '12 milliseconds', at
    FROM (
        SELECT n, k, (%(models)s::text[])[(k + (one < 0.1)::int) %% %(model_count)s + 1] AS m,
            CASE WHEN two < 0.33 THEN '' ELSE (%(adapters)s::text[])[k %% %(adapter_count)s + 1] END AS a,
            20 + (one * 1200)::int AS prompt, 1 + (two * 400)::int AS made,
            CASE WHEN three < 0.90 THEN 'stop' WHEN three < 0.97 THEN 'length' WHEN three < 0.99 THEN 'cancelled'
                ELSE 'error' END AS finish,
            %(start)s::timestamptz + n * (%(length)s::interval / %(total)s) AS at
        FROM (
            SELECT n, floor(%(key_count)s * power(random(), 2))::int AS k, random() AS one, random() AS two,
                random() AS three
            FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
        ) dice
    ) request
"""


@dataclass(frozen=True, slots=True)
class Company:
    """Whose pages are looked at."""

    user: User
    org: Organisation
    keys: list[str]
    models: list[str]
    adapters: list[str]


def company_make() -> Company:
    """The customer without requests."""
    people = [
        user_register(email=f"person{number}@example.com", password="x" * 20) for number in range(PEOPLE)
    ]
    user = people[0]
    actor = Actor(id=user.id, label=user.email)
    org = organisation_create(name="Bench", owner=user, actor=actor)
    Membership.objects.filter(user=user).exclude(organisation=org).delete()
    for person in people[1:]:
        Membership.objects.create(organisation=org, user=person, role="developer")
    keys = []
    for number in range(KEYS):
        maker = people[number % PEOPLE]
        key, _ = key_create(
            org=org,
            name=f"service {number}",
            scopes=["inference"],
            actor=Actor(id=maker.id, label=maker.email),
        )
        keys.append(key.id)
    models = [_model(org, number) for number in range(MODELS)]
    adapters = [
        Adapter.objects.create(
            organisation=org, base_id=models[number % MODELS], name=f"adapter-{number}", state="ready"
        ).id
        for number in range(ADAPTERS)
    ]
    return Company(user, org, keys, models, adapters)


def requests_make(company: Company, *, count: int, end: datetime, say: Callable[[float], None]) -> None:
    """`count` requests, evenly over the ninety days before `end`, the same dice in each run; `say` hears the share."""
    values: dict[str, Any] = {
        "org": company.org.id, "keys": company.keys, "models": company.models, "adapters": company.adapters,
        "key_count": KEYS, "model_count": MODELS, "adapter_count": ADAPTERS, "total": count,
        "start": end - timedelta(days=DAYS), "length": timedelta(days=DAYS),
    }  # fmt: skip
    with connection.cursor() as cursor:
        # Nothing of it outlives the bench, so nothing is written twice.
        cursor.execute("ALTER TABLE usage_usageevent SET UNLOGGED")
        cursor.execute("SELECT setseed(0.5)")
        for first in range(0, count, CHUNK):
            last = min(first + CHUNK, count) - 1
            cursor.execute(REQUESTS, {**values, "first": first, "last": last})
            say((last + 1) / count)


def _model(org: Organisation, number: int) -> str:
    made = Model.objects.create(
        organisation=org, name=f"model-{number}", display_name=f"Model {number}", architecture="LlamaForCausalLM",
        context_length=8192, parameters=10**9, vocab_size=32_000, source_path="/nowhere", revision="0" * 64,
    )  # fmt: skip
    return str(made.id)
