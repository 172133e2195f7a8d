from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "kindling_platform.batches"
    label = "batches"
