from django.apps import AppConfig


class AdaptersConfig(AppConfig):
    name = "kindling_platform.adapters"
    label = "adapters"
