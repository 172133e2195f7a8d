"""The agent's HTTP interface; every route but `/healthz` wants the token."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_engine.protocol.usage_log import read_usage
from kindling_engine.protocol.usage_parts import part_delete
from kindling_platform.embedded.logs import log_tail, secrets_hide
from kindling_workers.agent.errors import AgentError
from kindling_workers.agent.replicas import Replicas
from kindling_workers.agent.room import device_text

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REPLICAS = web.AppKey("replicas", Replicas)
MAX_RECORDS = 5_000
MAX_LOG_LINES = 2_000


def create_app(replicas: Replicas, token: str) -> web.Application:
    app = web.Application(middlewares=[_errors, _require_token(token)])
    app[REPLICAS] = replicas
    app.add_routes(
        [
            web.get("/healthz", get_health),
            web.get("/host", get_host),
            web.get("/replicas", list_replicas),
            web.get("/replicas/{name}", get_replica),
            web.put("/replicas/{name}", put_replica),
            web.delete("/replicas/{name}", delete_replica),
            web.get("/replicas/{name}/logs", get_logs),
            web.get("/replicas/{name}/usage", get_usage),
            web.delete("/replicas/{name}/usage", delete_usage),
            web.get("/usage", list_usage),
        ]
    )
    app.on_startup.append(_restore)
    app.on_shutdown.append(_stop_all)
    return app


async def get_health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ready", "replicas": len(request.app[REPLICAS].list())})


async def get_host(request: web.Request) -> web.Response:
    """What engines compute on here."""
    return web.json_response({"device": await asyncio.to_thread(device_text)})


async def list_replicas(request: web.Request) -> web.Response:
    return _json({"replicas": request.app[REPLICAS].list()})


async def get_replica(request: web.Request) -> web.Response:
    return _json(request.app[REPLICAS].get(request.match_info["name"]))


async def put_replica(request: web.Request) -> web.Response:
    try:
        spec = msgspec.json.decode(await request.read(), type=ReplicaSpec)
    except msgspec.DecodeError as error:
        raise AgentError("invalid_spec", f"The replica's description is not right: {error}") from error
    if spec.name != request.match_info["name"]:
        raise AgentError("invalid_spec", "The name in the path and the name in the body differ.")
    return _json(await request.app[REPLICAS].ensure(spec))


async def delete_replica(request: web.Request) -> web.Response:
    await request.app[REPLICAS].delete(request.match_info["name"])
    return web.Response(status=204)


async def get_logs(request: web.Request) -> web.Response:
    path = request.app[REPLICAS].places.log(request.match_info["name"])
    lines = _number(request, "tail", default=200, most=MAX_LOG_LINES)
    return web.Response(text=secrets_hide(await asyncio.to_thread(log_tail, path, lines)))


async def get_usage(request: web.Request) -> web.Response:
    """Read the log file itself: what a dead engine wrote is billed all the same."""
    path = request.app[REPLICAS].places.usage_log(request.match_info["name"])
    after = _number(request, "after", default=0, most=2**62)
    limit = _number(request, "limit", default=500, most=MAX_RECORDS)
    log_id, records, following = await asyncio.to_thread(read_usage, path, after, limit)
    return _json({"log": log_id, "records": records, "next": following})


async def list_usage(request: web.Request) -> web.Response:
    """Every usage log of this host, those of deleted replicas included."""
    logs = [(path.stem, path.stat()) for path in request.app[REPLICAS].places.usage_logs()]
    return _json(
        {
            "logs": [
                {"replica": name, "size_bytes": found.st_size, "written_ms": found.st_mtime_ns // 10**6}
                for name, found in logs
            ]
        }
    )


async def delete_usage(request: web.Request) -> web.Response:
    """Delete a log that nobody writes any more, of the size that the caller has seen; 409 for one that is not so."""
    path = request.app[REPLICAS].places.usage_log(request.match_info["name"])
    size = _number(request, "size", default=0, most=2**62)
    if not await asyncio.to_thread(part_delete, path, size):
        raise AgentError("usage_log_in_use", "The log is written, or has grown.", status=409)
    return web.Response(status=204)


def _number(request: web.Request, name: str, *, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise AgentError("invalid_value", f"`{name}` must be a whole number.")
    return min(int(text), most)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)


def _require_token(token: str) -> Any:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if request.path != "/healthz" and not hmac.compare_digest(given, expected):
            raise AgentError("invalid_token", "The agent's token is missing or wrong.", status=401)
        return await handler(request)

    return check


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except AgentError as error:
        body = {"message": error.message, "type": "agent_error", "param": None, "code": error.code}
        return _json({"error": body}, error.status)


async def _restore(app: web.Application) -> None:
    app[REPLICAS].restore()


async def _stop_all(app: web.Application) -> None:
    await app[REPLICAS].stop_all()
