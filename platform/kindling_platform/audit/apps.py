from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "kindling_platform.audit"
    label = "audit"

    def ready(self) -> None:
        from kindling_billing.trail import trail_keep
        from kindling_platform.audit.trail import money_action_keep

        trail_keep(money_action_keep)
