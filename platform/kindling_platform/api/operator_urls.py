"""Addresses of the control API that are the operator's alone."""

from django.urls import path

from kindling_platform.api.views.operator import (
    audit,
    costs,
    grants,
    invoices,
    margins,
    organisations,
    prices,
    reconciliation,
    revenue,
    risk,
    terms,
)

urlpatterns = [
    path("v1/operator/organisations", organisations.Organisations.as_view()),
    path("v1/operator/organisations/<str:organisation_id>", organisations.OneOrganisation.as_view()),
    path(
        "v1/operator/organisations/<str:organisation_id>/suspend", organisations.OrganisationSuspend.as_view()
    ),
    path(
        "v1/operator/organisations/<str:organisation_id>/resume", organisations.OrganisationResume.as_view()
    ),
    path("v1/operator/organisations/<str:organisation_id>/grants", grants.Grants.as_view()),
    path("v1/operator/organisations/<str:organisation_id>/plans", terms.OrganisationPlans.as_view()),
    path("v1/operator/organisations/<str:organisation_id>/terms", terms.OrganisationTerms.as_view()),
    path("v1/operator/plans", terms.Plans.as_view()),
    path("v1/operator/prices", prices.Prices.as_view()),
    path("v1/operator/prices.csv", prices.PriceBookCsv.as_view()),
    path("v1/operator/prices/preview", prices.PricesPreview.as_view()),
    path("v1/operator/prices/<str:price_id>/withdraw", prices.PriceWithdraw.as_view()),
    path("v1/operator/invoices", invoices.OperatedInvoices.as_view()),
    path("v1/operator/invoices/unpaid", invoices.Unpaid.as_view()),
    path("v1/operator/invoices/<str:invoice_id>/give-up", invoices.InvoiceGiveUp.as_view()),
    path("v1/operator/at-risk", risk.AtRisk.as_view()),
    path("v1/operator/at-risk.csv", risk.AtRiskCsv.as_view()),
    path("v1/operator/revenue", revenue.Revenue.as_view()),
    path("v1/operator/revenue/shares", revenue.RevenueShares.as_view()),
    path("v1/operator/margins", margins.Margins.as_view()),
    path("v1/operator/margins.csv", margins.MarginsCsv.as_view()),
    path("v1/operator/margins/<str:model_id>", margins.ModelMargins.as_view()),
    path("v1/operator/costs", costs.Costs.as_view()),
    path("v1/operator/hosted-prices", costs.HostedPrices.as_view()),
    path("v1/operator/reconciliation", reconciliation.Reconciliation.as_view()),
    path("v1/operator/reconciliation.csv", reconciliation.ReconciliationCsv.as_view()),
    path("v1/operator/reconciliation/movements", reconciliation.Movements.as_view()),
    path(
        "v1/operator/reconciliation/movements/<str:movement_id>/accept",
        reconciliation.DifferenceAccept.as_view(),
    ),
    path("v1/operator/audit", audit.Audit.as_view()),
    path("v1/operator/audit.csv", audit.AuditCsv.as_view()),
]
