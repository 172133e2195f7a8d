"""Both halves on one port: data plane paths go to the gateway, all others to Django.

The lifespan is answered here: Django knows none, and the gateway's pools live as long as the process.
"""

from kindling_platform.config.asgi import application as django
from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import serve_lifespan
from kindling_platform.gateway.metrics import PATH as METRICS
from kindling_platform.gateway.request import Receive, Scope, Send
from kindling_platform.gateway.routes import split_prefix

# Where all is one process, whether it answers is whether it serves: the gateway tells of cache, database and spool.
HEALTH = "/healthz"

gateway = create_app(load_env())


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch by path."""
    if scope["type"] == "lifespan":
        await serve_lifespan(gateway, receive, send)
    elif scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["path"] in (METRICS, HEALTH) or split_prefix(scope["path"]) is not None:
        await gateway(scope, receive, send)
    else:
        await django(scope, receive, send)  # type: ignore[arg-type]  # Django's own scope types are narrower
