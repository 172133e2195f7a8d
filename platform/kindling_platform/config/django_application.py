"""Django as an ASGI application with its bounds; importing it changes nothing in the process."""

import os
from importlib import import_module

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.http import parse_cookie

from kindling_platform.config.body_limit import BodyLimit
from kindling_platform.config.body_refusal import Scope
from kindling_platform.config.body_stream import StreamUploads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")
django = get_asgi_application()


async def signed_in(scope: Scope) -> bool:
    """Whether a request comes with the session of somebody."""
    return await sync_to_async(_session_of_somebody)(
        dict(scope["headers"]).get(b"cookie", b"").decode("latin-1")
    )


def _session_of_somebody(cookies: str) -> bool:
    from django.conf import settings
    from django.contrib.auth import SESSION_KEY
    from django.db import connection

    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    try:
        return bool(key) and SESSION_KEY in import_module(settings.SESSION_ENGINE).SessionStore(key)
    finally:
        if not connection.in_atomic_block:
            connection.close()


# Django's own types of scope and send are narrower than the protocol's.
application = BodyLimit(StreamUploads(django), signed_in)  # type: ignore[arg-type]
