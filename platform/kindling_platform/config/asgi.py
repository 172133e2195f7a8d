"""Django alone: console, sign-in, control API, static files.

Only a web process imports this, as it pools the connections of whoever does.
"""

from kindling_platform.config.database import connections_pool
from kindling_platform.config.django_application import application

__all__ = ["application"]

connections_pool()
