"""Where others report to us."""

from django.urls import path

from kindling_platform.api.views.stripe_webhook import stripe_webhook

urlpatterns = [path("webhook", stripe_webhook, name="stripe-webhook")]
