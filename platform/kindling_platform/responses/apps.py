from django.apps import AppConfig


class ResponsesConfig(AppConfig):
    name = "kindling_platform.responses"
    label = "responses"
