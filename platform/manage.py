"""Django's own command line over this project's settings."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")
    execute_from_command_line(sys.argv)
