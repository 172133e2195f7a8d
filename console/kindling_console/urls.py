"""Every console page, mounted under /console/."""

from django.urls import URLPattern, URLResolver, path, re_path

from kindling_console.pages import (
    account,
    adapters,
    billing,
    catalog,
    deployments,
    home,
    keys,
    limits,
    mail,
    operator,
    playground,
    upload,
    usage,
)

app_name = "console"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("live/", home.home_live, name="home-live"),
    path("account/", account.account, name="account"),
    path("theme/", account.theme, name="theme"),
    path("catalog/", catalog.catalog, name="catalog"),
    path("catalog/<str:org_slug>/<str:name>/", catalog.model_page, name="model"),
    path("adapters/", adapters.adapters, name="adapters"),
    path("adapters/upload/", upload.adapter_upload, name="adapter-upload"),
    path("adapters/<str:adapter_id>/", adapters.adapter_page, name="adapter"),
    path("adapters/<str:adapter_id>/report/", adapters.adapter_report, name="adapter-report"),
    path("adapters/<str:adapter_id>/delete/", adapters.adapter_delete_page, name="adapter-delete"),
    path("keys/", keys.keys, name="keys"),
    path("keys/<str:key_id>/revoke/", keys.key_revoke_page, name="key-revoke"),
    path("keys/<str:key_id>/limits/", limits.key_limits, name="key-limits"),
    path("playground/", playground.playground, name="playground"),
    path("playground/run/", playground.run, name="playground-run"),
    path("playground/receipt/<str:request_id>/", playground.receipt, name="playground-receipt"),
    path("usage/", usage.usage, name="usage"),
    path("usage/requests.csv", usage.usage_csv, name="usage-csv"),
    path("usage/requests/", usage.requests, name="requests"),
    path("usage/requests/<str:request_id>/", usage.request_page, name="request"),
    path("billing/", billing.billing, name="billing"),
    path("deployments/", deployments.deployments, name="deployments"),
    path("deployments/<str:deployment_id>/", deployments.deployment_page, name="deployment"),
    re_path(
        r"^deployments/(?P<deployment_id>[^/]+)/(?P<action>start|stop)/$",
        deployments.deployment_action,
        name="deployment-action",
    ),
    path("operator/organisations/", operator.organisations, name="operator-organisations"),
    path(
        "operator/organisations/<str:organisation_id>/", operator.organisation, name="operator-organisation"
    ),
    path(
        "operator/organisations/<str:organisation_id>/limits/",
        limits.organisation_limits,
        name="operator-organisation-limits",
    ),
    path("operator/prices/", operator.prices, name="operator-prices"),
    path("operator/fleet/", operator.fleet, name="operator-fleet"),
    path("operator/mail/", mail.outbox, name="operator-mail"),
    path("operator/mail/<str:letter_id>/", mail.letter, name="operator-letter"),
]
