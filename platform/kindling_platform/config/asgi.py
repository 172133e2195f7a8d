"""Django alone: console, sign-in, control API, static files."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")

application = get_asgi_application()
