"""Pages of the console that stand outside of `/console/`, for everybody."""

from django.urls import path, re_path

from kindling_console.pages.error_index import error_index
from kindling_console.pages.status import status, status_as_feed, status_as_json
from kindling_console.pages.well_known import change_password, favicon, robots

urlpatterns = [
    path("errors/", error_index, name="error-index"),
    re_path(r"^status/?$", status, name="status"),
    path("status.json", status_as_json, name="status-json"),
    path("status.atom", status_as_feed, name="status-feed"),
    path("favicon.ico", favicon, name="favicon"),
    path("robots.txt", robots, name="robots"),
    path(".well-known/change-password", change_password, name="change-password"),
]
