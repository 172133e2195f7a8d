"""Addresses of the control API."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView

from kindling_platform.api import operator_urls
from kindling_platform.api.errors import not_found_view
from kindling_platform.api.views import (
    adapter_files,
    adapters,
    aliases,
    billing,
    deployments,
    gpu_time,
    invitations,
    keys,
    limits,
    me,
    members,
    models,
    payments,
    request_log,
    responses,
    usage,
)

app_name = "api"

urlpatterns = [
    path(
        "schema/", SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]), name="schema"
    ),
    path("v1/me", me.Me.as_view()),
    path("v1/models", models.Models.as_view()),
    path("v1/models/<path:ref>", models.OneModel.as_view()),
    path("v1/keys", keys.Keys.as_view()),
    path("v1/keys/<str:key_id>", keys.OneKey.as_view()),
    path("v1/keys/<str:key_id>/rotate", keys.KeyRotate.as_view()),
    path("v1/keys/<str:key_id>/limits", limits.KeyLimits.as_view()),
    path("v1/members", members.Members.as_view()),
    path("v1/members/<str:user_id>", members.OneMember.as_view()),
    path("v1/members/<str:user_id>/limits", limits.MemberLimits.as_view()),
    path("v1/invitations", invitations.Invitations.as_view()),
    path("v1/invitations/<str:invitation_id>", invitations.OneInvitation.as_view()),
    path("v1/limits", limits.OrganisationLimits.as_view()),
    path("v1/adapters", adapters.Adapters.as_view()),
    path("v1/adapters/<str:adapter_id>", adapters.OneAdapter.as_view()),
    path("v1/adapters/<str:adapter_id>/report", adapters.AdapterReportView.as_view()),
    path("v1/adapters/<str:adapter_id>/complete", adapters.AdapterComplete.as_view()),
    path("v1/adapters/<str:adapter_id>/files", adapter_files.AdapterFiles.as_view()),
    path("v1/adapters/<str:adapter_id>/files/<str:name>", adapter_files.AdapterFileView.as_view()),
    path("v1/adapters/<str:adapter_id>/zip", adapter_files.AdapterZip.as_view()),
    path("v1/aliases", aliases.Aliases.as_view()),
    path("v1/aliases/<path:alias>", aliases.OneAlias.as_view()),
    path("v1/deployments", deployments.Deployments.as_view()),
    path("v1/deployments/<str:deployment_id>", deployments.OneDeployment.as_view()),
    path("v1/deployments/<str:deployment_id>/start", deployments.DeploymentStart.as_view()),
    path("v1/deployments/<str:deployment_id>/stop", deployments.DeploymentStop.as_view()),
    path("v1/deployments/<str:deployment_id>/events", deployments.DeploymentEvents.as_view()),
    path("v1/deployments/<str:deployment_id>/logs", deployments.DeploymentLogs.as_view()),
    path("v1/usage", usage.Usage.as_view()),
    path("v1/usage.csv", usage.UsageCsv.as_view()),
    path("v1/usage/gpu-time", gpu_time.GpuTime.as_view()),
    path("v1/usage/gpu-time.csv", gpu_time.GpuTimeCsv.as_view()),
    path("v1/usage/requests.csv", usage.UsageEventsCsv.as_view()),
    path("v1/usage/requests", usage.UsageEvents.as_view()),
    path("v1/usage/requests/<str:request_id>", usage.OneUsageEvent.as_view()),
    path("v1/responses", responses.StoredResponses.as_view()),
    path("v1/request-log", request_log.RequestLog.as_view()),
    path("v1/request-log/requests", request_log.LoggedRequests.as_view()),
    path("v1/request-log/requests/<str:request_id>", request_log.OneLoggedRequest.as_view()),
    path("v1/balance", billing.BalanceView.as_view()),
    path("v1/ledger", billing.Ledger.as_view()),
    path("v1/payments", payments.Payments.as_view()),
    path("v1/payments/<str:payment_id>", payments.OnePayment.as_view()),
    path("v1/cards", payments.Cards.as_view()),
    path("v1/cards/<str:card_id>", payments.OneCard.as_view()),
    path("v1/auto-topup", payments.AutoTopUpView.as_view()),
    path("v1/invoices", payments.Invoices.as_view()),
    path("v1/invoices/<str:invoice_id>/pay", payments.InvoicePay.as_view()),
    path("v1/billing-portal", payments.Portal.as_view()),
    *operator_urls.urlpatterns,
    re_path(r"^.*$", not_found_view),
]
