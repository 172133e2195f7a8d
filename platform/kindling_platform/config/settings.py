"""Django's settings, all of them derived from the environment (`config.env`)."""

from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONCE, NONE, SELF

from kindling_platform.config.database import database_settings
from kindling_platform.config.env import load_env
from kindling_platform.config.folders import folder_ensure
from kindling_platform.config.logs import logging_settings
from kindling_platform.config.mail import mail_settings

ENV = load_env()
SECRET_KEY = ENV.secret_key
DEBUG = ENV.debug
KINDLING_ENV = ENV
SITE_NAME = "Kindling"

# The loopback names stay allowed behind a proxy too: health checks come that way.
ALLOWED_HOSTS = sorted({"localhost", "127.0.0.1", "[::1]", urlsplit(ENV.public_url).hostname or "localhost"})
CSRF_TRUSTED_ORIGINS = [ENV.public_url]
USE_X_FORWARDED_HOST = False
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if ENV.public_url.startswith("https://") else None
)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.public_url.startswith("https://")
SESSION_COOKIE_NAME = "kindling_session"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "kindling_console.pages.errors.csrf_failure"

INSTALLED_APPS = [
    # First, so that its templates for signing in are found before allauth's own.
    "kindling_console",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.github",
    "allauth.usersessions",
    "csp",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "kindling_billing",
    "kindling_platform.audit",
    "kindling_platform.accounts",
    "kindling_platform.keys",
    "kindling_platform.catalog",
    "kindling_platform.adapters",
    "kindling_platform.usage",
    "kindling_platform.responses",
    "kindling_platform.batches",
    "kindling_platform.requestlog",
    "kindling_platform.deployments",
    "kindling_platform.hooks",
    "kindling_platform.status",
    "kindling_platform.api",
    "kindling_platform.embedded",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "kindling_platform.config.request_ids.request_ids",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "kindling_console.refused_bodies.RefusedBodies",
    "kindling_console.seeing.SeeingGuard",
]
ROOT_URLCONF = "kindling_platform.config.urls"
ASGI_APPLICATION = "kindling_platform.config.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "kindling_console.context.console",
            ],
        },
    }
]
DATABASES = {"default": database_settings(ENV.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
# The second is of passwords from before the first, which replaces it when their owners sign in.
PASSWORD_HASHERS = [
    "kindling_platform.accounts.passwords.PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/console/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
ACCOUNT_ADAPTER = "kindling_platform.accounts.signup.SignupAdapter"
USERSESSIONS_ADAPTER = "kindling_platform.accounts.sessions.SessionsAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if ENV.smtp_url else "none"
ACCOUNT_PREVENT_ENUMERATION = ENV.smtp_url is not None
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Kindling] "
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_FORMS = {
    "request_login_code": "kindling_console.forms.entrance.RequestLoginCodeForm",
    "reset_password": "kindling_console.forms.entrance.ResetPasswordForm",
}
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND = True
# As the pages and the letter say.
ACCOUNT_LOGIN_BY_CODE_TIMEOUT = 15 * 60
# Behind one address sit many people, and a test signs up a dozen: generous per address, strict per account.
ACCOUNT_RATE_LIMITS = {"signup": "60/m/ip", "login_failed": "10/m/ip,5/5m/key"}
# How long a confirmation holds; for keys and money a sign-in counts as one.
ACCOUNT_REAUTHENTICATION_TIMEOUT = 15 * 60
MFA_ADAPTER = "kindling_platform.accounts.factors.FactorsAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}
MFA_FORMS = {
    "add_webauthn": "kindling_console.forms.passkeys.AddForm",
    "authenticate_webauthn": "kindling_console.forms.passkeys.AuthenticateForm",
    "edit_webauthn": "kindling_console.forms.passkeys.RenameForm",
    "login_webauthn": "kindling_console.forms.passkeys.SignInForm",
    "reauthenticate_webauthn": "kindling_console.forms.passkeys.ConfirmForm",
}
MFA_TOTP_ISSUER = "Kindling"
# Without a mail server no address can be verified, and a second factor is still worth having.
MFA_ALLOW_UNVERIFIED_EMAIL = ENV.smtp_url is None

SOCIALACCOUNT_ADAPTER = "kindling_platform.accounts.social.SocialAdapter"
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {"provider_class": "kindling_platform.accounts.openid.provider.OpenidProvider"},
    "github": {"provider_class": "kindling_platform.accounts.openid.provider.GithubProvider"},
}
SOCIALACCOUNT_REAUTHENTICATION_REQUIRED = True
# Which accounts are joined by their address is up to our adapter; those that are, are linked from then on.
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
    }
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = folder_ensure(ENV.home / "static")
# What forms bring; `config.asgi` spools whole bodies there, too. A slow body holds no more memory than this.
FILE_UPLOAD_TEMP_DIR = folder_ensure(ENV.home / "tmp")
FILE_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
# Serves straight from the packages: no collect step that a user could forget. Files are hashed in production images.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
CACHES = {
    "default": {
        "BACKEND": "kindling_platform.common.shared_cache.SharedCache",
        "LOCATION": ENV.redis_url,
        "KEY_PREFIX": "kindling-web",
    }
}
LOGGING_CONFIG = None
LOGGING = logging_settings(ENV.log_level)
globals().update(mail_settings(ENV.smtp_url, ENV.home))

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "kindling_platform.api.authentication.KeyAuthentication",
        "kindling_platform.api.authentication.MemberAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["kindling_platform.api.permissions.MayAct"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["kindling_platform.api.parsers.StrictJsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "kindling_platform.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Kindling control API",
    "DESCRIPTION": "Models, adapters, deployments, keys, usage and balance of one organisation.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "kindling_platform.api.schema_errors.errors_add",
    ],
}
