from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "kindling_platform.accounts"
    label = "accounts"
