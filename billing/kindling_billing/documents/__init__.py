"""Invoices and receipts as PDF: what is said (sheets, plain values) apart from how it is set (pdf)."""
