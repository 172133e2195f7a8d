"""Every URL but `/v1`, which never reaches Django."""

from allauth.account.views import password_reset_from_key
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import include, path, re_path

from kindling_platform.config.admin_site import register_all


def home(request: HttpRequest) -> HttpResponse:
    """The front door leads to the console."""
    return redirect("/console/")


def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process answers; says nothing about others."""
    return JsonResponse({"status": "ok"})


register_all()

urlpatterns = [
    path("", home),
    path("healthz", healthz),
    path("console/", include("kindling_console.urls")),
    # allauth's own takes letters and digits alone for a user's id; ours have an underscore.
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z_]+)-(?P<key>.+)/$",
        password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("accounts/", include("kindling_console.account_urls")),
    path("accounts/", include("allauth.urls")),
    path("api/", include("kindling_platform.api.urls")),
    path("docs", include("kindling_platform.api.docs_urls")),
    path("", include("kindling_console.public_urls")),
    path("admin/", admin.site.urls),
    path("stripe/", include("kindling_platform.api.webhook_urls")),
]
handler403 = "kindling_console.pages.errors.forbidden"
handler404 = "kindling_console.pages.errors.not_found"
handler500 = "kindling_console.pages.errors.server_error"
