from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "kindling_billing"
    label = "billing"
