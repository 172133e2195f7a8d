"""The gateway's only way into Postgres: a small pool and a few views, read and never written."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

POOL_SIZE = 4
WAIT_S = 2.0
STATEMENT_TIMEOUT_MS = 2000
# A server that vanished without a word is given up within seconds instead of the kernel's hours.
CONNECTION: dict[str, Any] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

KEY_BY_DIGEST = (
    "SELECT key_id, org_id, org_slug, org_salt, scopes, expires_at, revoked, suspended_for, member_id, epoch, models,"
    " limits_key_id, limits"
    " FROM gateway_key WHERE digest = %s"
)
_MODEL = (
    "SELECT m.org_id, org_slug, is_public, name, kind, model_id, base_ref, adapter_id, adapter_hash,"
    " context_length, price_version_id, input_picousd, cached_input_picousd, output_picousd, reasoning_picousd,"
    " batch_percent, created_at"
    " FROM gateway_model m"
)
MODEL_BY_NAME = _MODEL + " WHERE org_slug = %s AND name = %s ORDER BY kind = 'adapter' LIMIT 1"
MODEL_BY_ALIAS = (
    _MODEL
    + " JOIN gateway_alias a ON org_slug = a.target_slug AND name = a.target_name"
    + " WHERE a.org_id = %s AND a.alias = %s ORDER BY kind = 'adapter' LIMIT 1"
)
MODELS_OF_ORG = _MODEL + " WHERE is_public OR m.org_id = %s ORDER BY org_slug, name LIMIT 10000"
ALIASES_OF_ORG = (
    "SELECT alias, target_slug, target_name FROM gateway_alias WHERE org_id = %s ORDER BY alias LIMIT 10000"
)
PLAN_PRICES_OF_ORG = (
    "SELECT model_id, price_version_id, input_picousd, cached_input_picousd, output_picousd, reasoning_picousd,"
    " batch_percent"
    " FROM gateway_plan_price WHERE org_id = %s"
)
REPLICAS_OF_MODEL = (
    "SELECT deployment_id, deployment_name, org_slug, replica_name, url"
    " FROM gateway_replica WHERE model_id = %s ORDER BY replica_name"
)
DEPLOYMENTS_OF_MODEL = (
    "SELECT deployment_id, deployment_name, org_slug FROM gateway_deployment WHERE model_id = %s"
)
SPENT_OF_SCOPE = (
    "SELECT b.version, coalesce(sum(s.cost_picousd), 0) AS total,"
    " coalesce(sum(s.cost_picousd) FILTER (WHERE s.hour >= %s), 0) AS day,"
    " coalesce(sum(s.cost_picousd) FILTER (WHERE s.hour >= %s), 0) AS month"
    " FROM gateway_balance b LEFT JOIN gateway_spending s ON s.org_id = b.org_id"
    " AND (%s = '' OR s.key_id = %s) AND (%s = '' OR s.member_id = %s)"
    " WHERE b.org_id = %s GROUP BY b.version"
)
BALANCE_OF_ORG = "SELECT balance_picousd, version FROM gateway_balance WHERE org_id = %s"
# One statement, so that the balance has been charged for all that are posted.
POSTED_OF_ORG = (
    "SELECT balance_picousd, version, ARRAY("
    "SELECT p.request_id FROM gateway_posted p WHERE p.org_id = b.org_id AND p.request_id = ANY(%s::uuid[])"
    ") AS posted FROM gateway_balance b WHERE b.org_id = %s"
)
SETTLED_OF_REQUEST = (
    "SELECT prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens"
    " FROM gateway_settled WHERE org_id = %s AND request_id = %s::uuid"
)


class DatabaseUnavailableError(Exception):
    """Postgres did not answer in time or not at all."""


class Database:
    """Rows as dictionaries; raises DatabaseUnavailableError and nothing else.

    It reads the views and nothing more, unless `writes`: then it may keep what clients ask to be kept. A connection is
    asked whether it still works before it is used.
    """

    def __init__(self, url: str, *, writes: bool = False) -> None:
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(
            url,
            min_size=0 if writes else 1,
            max_size=POOL_SIZE,
            timeout=WAIT_S,
            reconnect_timeout=5,
            open=False,
            check=AsyncConnectionPool.check_connection,
            configure=_configure_writer if writes else _configure,
            kwargs=CONNECTION | {"autocommit": True, "row_factory": dict_row},
            name="gateway",
        )

    async def open(self) -> None:
        """Start connecting; a database that is down now is found later."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=1)

    async def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of one of the queries above."""
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(query, values)
                return await cursor.fetchall()
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise DatabaseUnavailableError(type(error).__name__) from error

    async def row(self, query: str, values: Sequence[Any]) -> dict[str, Any] | None:
        """The first row or None."""
        found = await self.rows(query, values)
        return found[0] if found else None

    async def write(self, query: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        """A statement that tells nothing back."""
        try:
            async with self._pool.connection() as connection:
                await connection.execute(query, values)
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise DatabaseUnavailableError(type(error).__name__) from error

    async def answers(self) -> bool:
        """Whether a query works at the moment."""
        try:
            async with asyncio.timeout(WAIT_S):
                return bool(await self.rows("SELECT 1 AS one", []))
        except (DatabaseUnavailableError, TimeoutError):
            return False


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
    await connection.execute("SET default_transaction_read_only = on")


async def _configure_writer(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
