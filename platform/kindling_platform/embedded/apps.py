"""Gives Django the management commands of the embedded start."""

from django.apps import AppConfig


class EmbeddedConfig(AppConfig):
    name = "kindling_platform.embedded"
    label = "embedded"
