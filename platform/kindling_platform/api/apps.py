from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "kindling_platform.api"
    label = "api"
