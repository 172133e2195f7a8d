"""Addresses under `/accounts/` that answer in another way than allauth's, which follow them."""

from allauth.socialaccount.providers.github.views import oauth2_login
from django.contrib.auth.decorators import login_required
from django.urls import path

from kindling_console.pages import sign_in
from kindling_platform.accounts.openid.views import leaving

urlpatterns = [
    path("2fa/authenticate/", sign_in.SecondFactor.as_view(), name="mfa_authenticate"),
    path("2fa/webauthn/", sign_in.PasskeyList.as_view(), name="mfa_list_webauthn"),
    path("2fa/webauthn/add/", sign_in.PasskeyAdd.as_view(), name="mfa_add_webauthn"),
    path("2fa/webauthn/login/", sign_in.PasskeySignIn.as_view(), name="mfa_login_webauthn"),
    path(
        "2fa/webauthn/reauthenticate/", sign_in.PasskeyConfirm.as_view(), name="mfa_reauthenticate_webauthn"
    ),
    path("email/", sign_in.addresses, name="account_email"),
    path("3rdparty/", sign_in.linked, name="socialaccount_connections"),
    path("3rdparty/signup/", sign_in.sign_up_again, name="socialaccount_signup"),
    path("confirm/<slug:provider_id>/", sign_in.confirm_with, name="account_confirm_with"),
    path("github/login/", leaving(oauth2_login), name="github_login"),
    path("password/set/", login_required(sign_in.password_first), name="account_set_password"),
]
