"""The addresses of a sign-in at an OpenID provider, under the names that allauth looks them up by."""

from django.urls import path

from kindling_platform.accounts.openid import views

urlpatterns = [
    path("oidc/<slug:provider_id>/login/", views.login, name="openid_connect_login"),
    path("oidc/<slug:provider_id>/login/callback/", views.callback, name="openid_connect_callback"),
]
