from django.apps import AppConfig


class RequestLogConfig(AppConfig):
    name = "kindling_platform.requestlog"
    label = "requestlog"
