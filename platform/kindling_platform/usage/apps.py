from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "kindling_platform.usage"
    label = "usage"
