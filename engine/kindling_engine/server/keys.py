"""Names under which the application keeps what its handlers need."""

from aiohttp import web

from kindling_engine.server.front import Front

FRONT = web.AppKey("front", Front)
