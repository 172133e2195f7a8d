"""Where people read about the API; apart from `urls`, whose addresses are for programs."""

from django.urls import path

from kindling_platform.api.docs import docs_page

urlpatterns = [path("", docs_page, name="docs")]
