from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "kindling_platform.keys"
    label = "keys"
