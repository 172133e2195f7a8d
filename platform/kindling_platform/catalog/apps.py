from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "kindling_platform.catalog"
    label = "catalog"
