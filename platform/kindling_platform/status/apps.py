from django.apps import AppConfig


class StatusConfig(AppConfig):
    name = "kindling_platform.status"
    label = "status"
