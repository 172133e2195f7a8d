"""Django alone: console, sign-in, control API, static files.

Only a web process imports this, as it pools the connections of whoever does, and spools bodies where uploads end up and
not in a small /tmp.
"""

import tempfile

from django.conf import settings

from kindling_platform.config.database import connections_pool
from kindling_platform.config.django_application import application

__all__ = ["application"]

connections_pool()
tempfile.tempdir = str(settings.FILE_UPLOAD_TEMP_DIR)
