"""The data plane alone: ``uvicorn kindling_platform.config.asgi_gateway:application``."""

from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import serve_lifespan
from kindling_platform.gateway.request import Receive, Scope, Send

GRACE_S = 25.0

gateway = create_app(load_env(), grace_s=GRACE_S)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the gateway's paths; the lifespan opens and closes its pools."""
    if scope["type"] == "lifespan":
        await serve_lifespan(gateway, receive, send)
    elif scope["type"] == "http":
        await gateway(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1000})
