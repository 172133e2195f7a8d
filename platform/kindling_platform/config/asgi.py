"""Django alone: console, sign-in, control API, static files."""

import os

from django.core.asgi import get_asgi_application

from kindling_platform.config.body_limit import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")

application = BodyLimit(get_asgi_application())  # type: ignore[arg-type]  # Django's own scope types are narrower
