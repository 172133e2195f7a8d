"""Where engines ask for adapters: a socket in the file system that this account alone can reach, so without a token."""

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from kindling_platform.common.objectstore.errors import PASSING, StoreError
from kindling_workers.agent.blob_source import BlobSource

SOURCE = web.AppKey("source", BlobSource)
SOCKET = "blobs.sock"
MOST_SOCKET_PATH_BYTES = 107
HASH = re.compile(r"[0-9a-f]{64}")


def source_path(home: Path) -> Path:
    """In the state folder, or where its path is too long for a socket, in a new folder that is ours alone."""
    path = home / "run" / SOCKET
    if len(os.fsencode(path)) <= MOST_SOCKET_PATH_BYTES:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
    return Path(tempfile.mkdtemp(prefix="kindling-agent-", dir="/tmp")) / SOCKET


def source_serve(app: web.Application, source: BlobSource, path: Path) -> None:
    """Serve engines on the socket for as long as the agent's own interface is up."""

    async def serve(_app: web.Application) -> AsyncIterator[None]:
        inner = web.Application()
        inner[SOURCE] = source
        inner.add_routes([web.post("/blobs/{hash}", post_blob)])
        runner = web.AppRunner(inner, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(runner, str(path)).start()
        finally:
            os.umask(before)
        trimming = asyncio.ensure_future(source.trim())
        yield
        trimming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trimming
        source.close()
        await runner.cleanup()

    app.cleanup_ctx.append(serve)


async def post_blob(request: web.Request) -> web.Response:
    """Answer when the adapter's folder is on this disk."""
    content_hash = request.match_info["hash"]
    if not HASH.fullmatch(content_hash):
        return _error(404, "not_found", "There is no such adapter.")
    try:
        await request.app[SOURCE].bring(content_hash)
    except StoreError as error:
        return _error(503 if error.code in PASSING else 502, error.code, error.message)
    return web.json_response({"ok": True})


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
