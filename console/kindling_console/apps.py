"""The console as a Django app: templates, static files and pages, no models."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "kindling_console"
    label = "console"
    verbose_name = "Console"
