"""A gateway under a real server, with a database that holds what the four views show."""

import asyncio
import json
import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import redis
import uvicorn
from psycopg import sql
from psycopg.types.json import Jsonb

from kindling_billing import holds
from kindling_kept import KEPT_TABLES
from kindling_platform.config.env import Env, load_env
from kindling_platform.config.http_limits import BoundedHttp
from kindling_platform.gateway.app import Gateway, create_app
from kindling_platform.gateway.lifespan import asgi_application
from kindling_platform.gateway.limits.scopes import RATES
from kindling_platform.keys import secret

INPUT, CACHED_INPUT, OUTPUT = 100_000, 50_000, 400_000
# Another than the price book's own, so that it shows where it comes from.
BATCH_PERCENT = 30
USD = 10**12
CONTEXT = 4096
TABLES = """
CREATE TABLE gateway_key (digest bytea, key_id text, org_id text, org_slug text, org_salt text,
    scopes text[], expires_at timestamptz, revoked boolean, suspended boolean, member_id text, epoch bigint,
    models text[], limits_key_id text, limits jsonb, suspended_for text);
CREATE TABLE gateway_model (org_id text, org_slug text, is_public boolean, name text, kind text,
    model_id text, base_ref text, adapter_id text, adapter_hash text, context_length integer,
    price_version_id text, input_picousd bigint, cached_input_picousd bigint, output_picousd bigint,
    created_at timestamptz, reasoning_picousd bigint, batch_percent smallint);
CREATE TABLE gateway_alias (org_id text, alias text, target_slug text, target_name text);
CREATE TABLE gateway_replica (deployment_id text, deployment_name text, org_id text, org_slug text,
    model_id text, replica_name text, url text);
CREATE TABLE gateway_deployment (deployment_id text, deployment_name text, org_id text, org_slug text, model_id text);
CREATE TABLE gateway_balance (org_id text, balance_picousd numeric, version bigint);
CREATE TABLE gateway_plan_price (org_id text, model_id text, price_version_id text, input_picousd bigint,
    cached_input_picousd bigint, output_picousd bigint, reasoning_picousd bigint, batch_percent smallint);
CREATE TABLE gateway_posted (org_id text, request_id uuid);
CREATE TABLE gateway_settled (org_id text, request_id uuid, prompt_tokens integer, cached_tokens integer,
    completion_tokens integer, reasoning_tokens integer);
CREATE TABLE gateway_spending (org_id text, key_id text, member_id text, hour timestamptz, cost_picousd numeric);
"""


LIMIT_NAMES = (*RATES, "budget_day_picousd", "budget_month_picousd", "budget_total_picousd")


def limit_row(scope: str, **limits: int) -> dict[str, Any]:
    """One entry of a key's limits, as the view shows it."""
    return {"scope": scope, **dict.fromkeys(LIMIT_NAMES), **limits}


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation of the world."""

    id: str
    slug: str


class World:
    """Rows in the shape of the views, in a database of its own."""

    def __init__(self, server_url: str, pepper: str) -> None:
        self.name = f"gateway_{secrets.token_hex(4)}"
        self.pepper = pepper
        # Spools of one database are no business of another's gateways.
        self.home = load_env().home / self.name
        self._server_url = server_url
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        self.url = urlunsplit(urlsplit(server_url)._replace(path=f"/{self.name}"))
        self._db = psycopg.connect(self.url, autocommit=True)
        self._db.execute(TABLES)
        self._db.execute(KEPT_TABLES)

    def drop(self) -> None:
        self._db.close()
        shutil.rmtree(self.home, ignore_errors=True)
        with psycopg.connect(self._server_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def execute(self, query: str, *values: Any) -> None:
        self._db.execute(query, values)

    def value(self, query: str, *values: Any) -> Any:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._db.execute(query, values).fetchall()

    def org(self, slug: str, *, usd: float = 1.0) -> Org:
        org = Org(f"org_{secrets.token_hex(6)}", slug)
        self.execute("INSERT INTO gateway_balance VALUES (%s, %s, 1)", org.id, int(usd * USD))
        return org

    def key(self, org: Org, *, scopes: tuple[str, ...] = ("inference",), **columns: Any) -> str:
        text = secret.generate()
        row = {
            "expires_at": None,
            "revoked": False,
            "suspended_for": "",
            "member": None,
            "models": None,
        } | columns
        key_id = f"key_{secrets.token_hex(6)}"
        self.execute(
            "INSERT INTO gateway_key VALUES (%s, %s, %s, %s, 'ab12', %s, %s, %s, %s, %s, 1, %s, %s, %s, %s)",
            secret.digest(text, self.pepper), key_id, org.id, org.slug,
            list(scopes), row["expires_at"], row["revoked"], bool(row["suspended_for"]), row["member"], row["models"],
            key_id, Jsonb(row.get("limits", [])), row["suspended_for"],
        )  # fmt: skip
        return text

    def base(
        self, org: Org, name: str, *, is_public: bool = True, priced: bool = True, context: int = 4096
    ) -> str:
        model_id = f"mdl_{secrets.token_hex(6)}"
        self._model(org, name, is_public, "base", model_id, f"{org.slug}/{name}", "", "", priced)
        return model_id

    def adapter(self, org: Org, name: str, *, model_id: str, base_ref: str) -> str:
        digest = secrets.token_hex(32)
        adapter_id = f"adp_{secrets.token_hex(6)}"
        self._model(org, name, False, "adapter", model_id, base_ref, adapter_id, digest, True)
        return digest

    def _model(self, org: Org, name: str, is_public: bool, kind: str, *rest: Any) -> None:
        model_id, base_ref, adapter_id, digest, priced = rest
        price = ("prc_1", INPUT, CACHED_INPUT, OUTPUT) if priced else (None, None, None, None)
        self.execute(
            "INSERT INTO gateway_model"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, NULL, %s)",
            org.id, org.slug, is_public, name, kind, model_id, base_ref, adapter_id, digest, CONTEXT,
            *price, datetime.now(UTC), BATCH_PERCENT if priced else None,
        )  # fmt: skip

    def replica(self, org: Org, model_id: str, url: str, *, name: str = "", deployment: str = "main") -> None:
        self.execute(
            "INSERT INTO gateway_replica VALUES (%s, %s, %s, %s, %s, %s, %s)",
            f"dep_{deployment}", deployment, org.id, org.slug, model_id,
            name or f"rep_{secrets.token_hex(4)}", url,
        )  # fmt: skip
        self.deployment(org, model_id, deployment)

    def deployment(self, org: Org, model_id: str, name: str) -> None:
        self.execute(
            "INSERT INTO gateway_deployment VALUES (%s, %s, %s, %s, %s)",
            f"dep_{name}", name, org.id, org.slug, model_id,
        )  # fmt: skip


class GatewayServer:
    """uvicorn with the gateway, in a thread."""

    def __init__(self, gateway: Gateway, *, http: type[asyncio.Protocol] = BoundedHttp) -> None:
        config = uvicorn.Config(
            asgi_application(gateway), host="127.0.0.1", port=0, lifespan="on", access_log=False, log_level="warning",
            timeout_graceful_shutdown=2, http=http,
        )  # fmt: skip
        self.gateway = gateway
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="gateway", daemon=True)

    def __enter__(self) -> "GatewayServer":
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise AssertionError("the gateway did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(60)

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def client(self, key: str = "", **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def async_client(self, key: str = "", **options: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, **options)


def gateway_env(**changes: Any) -> Env:
    """The session's settings with changes."""
    return replace(load_env(), **changes)


def start_gateway(world: World, *, grace_s: float = 1.0, **changes: Any) -> GatewayServer:
    """A gateway on a world; use it in a `with`."""
    return GatewayServer(
        create_app(
            gateway_env(**({"database_url": world.url, "home": world.home} | changes)), grace_s=grace_s
        )
    )


def held_nano(valkey: redis.Redis, org: Org) -> dict[str, int]:
    """What an organisation's requests hold at the moment, by request id."""
    rows = valkey.hgetall(holds.holds_key(org.id))
    return {name.decode(): int(value.split(b":")[0]) for name, value in rows.items()}


def valkey_client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["KINDLING_REDIS_URL"])


def chat(model: str = "kindling/words", **fields: Any) -> dict[str, Any]:
    """A chat request's body."""
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8} | fields


def send(
    url: str, key: str, body: dict[str, Any], *, path: str = "/v1/chat/completions", **headers: str
) -> HTTPConnection:
    """A request on its way; whoever closes the connection leaves before the answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers |= {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", path, json.dumps(body, separators=(",", ":")), headers)
    return connection


def eventually(check, *, seconds: float = 60) -> Any:
    """Poll until `check` gives something true."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached in {seconds} s; last seen: {value!r}")
        time.sleep(0.01)
    return value
