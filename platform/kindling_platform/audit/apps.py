from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "kindling_platform.audit"
    label = "audit"
