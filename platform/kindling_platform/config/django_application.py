"""Django as an ASGI application with its bounds; importing it changes nothing in the process."""

import os

from django.core.asgi import get_asgi_application

from kindling_platform.config.body_limit import BodyLimit
from kindling_platform.config.body_stream import StreamUploads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")
django = get_asgi_application()

# Django's own types of scope and send are narrower than the protocol's.
application = BodyLimit(StreamUploads(django))  # type: ignore[arg-type]
