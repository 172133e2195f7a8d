"""The data plane alone.

uvicorn --http kindling_platform.config.http_limits:BoundedHttp kindling_platform.config.asgi_gateway:application
"""

from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import asgi_application

# Whoever is still waited for then is cut; shipping and last words take up to six seconds more.
GRACE_S = 22.0

application = asgi_application(create_app(load_env(), grace_s=GRACE_S))
