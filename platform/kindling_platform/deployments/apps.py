from django.apps import AppConfig


class DeploymentsConfig(AppConfig):
    name = "kindling_platform.deployments"
    label = "deployments"
