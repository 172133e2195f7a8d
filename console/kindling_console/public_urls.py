"""Pages of the console that stand outside of `/console/`, for everybody."""

from django.urls import path

from kindling_console.pages.error_index import error_index

urlpatterns = [path("errors/", error_index, name="error-index")]
