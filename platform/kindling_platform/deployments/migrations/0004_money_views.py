"""What the gateway reads of money: what an owner may spend rather than their wallet, prices of a plan of their own,
and whether unpaid invoices stop their keys.
"""

from importlib import import_module

from django.db import migrations

OLD_KEY = import_module("kindling_platform.deployments.migrations.0003_gateway_limits").KEY
SUSPENDED = "o.suspended_at IS NOT NULL AS suspended"
UNPAID = "EXISTS (SELECT 1 FROM billing_terms t WHERE t.owner_id = o.id AND t.suspended_at IS NOT NULL)"
assert SUSPENDED in OLD_KEY
KEY = OLD_KEY.replace(SUSPENDED, f"(o.suspended_at IS NOT NULL OR {UNPAID}) AS suspended")
OLD_BALANCE = """
    SELECT o.id AS org_id, coalesce(a.balance_picousd, 0) AS balance_picousd, coalesce(a.version, 0) AS version
    FROM accounts_organisation o
    LEFT JOIN billing_ledgeraccount a ON a.kind = 'wallet' AND a.owner_id = o.id
"""
BALANCE = """
    SELECT o.id AS org_id, coalesce(s.picousd, 0) AS balance_picousd, coalesce(s.version, 0) AS version
    FROM accounts_organisation o LEFT JOIN billing_spendable s ON s.owner_id = o.id
"""
OF_THE_BOOK = "plan_id = '' AND"
MODEL = """
    WITH price AS (
        SELECT DISTINCT ON (sku) sku, id, input_picousd, cached_input_picousd, output_picousd
        FROM billing_priceversion WHERE {plan} valid_from <= statement_timestamp()
        ORDER BY sku, valid_from DESC, id DESC
    ), base AS (
        SELECT m.*, o.slug FROM catalog_model m JOIN accounts_organisation o ON o.id = m.organisation_id
    ), callable AS (
        SELECT b.organisation_id AS org_id, b.slug AS org_slug, b.is_public, b.name, 'base' AS kind,
               b.id AS model_id, b.slug || '/' || b.name AS base_ref, '' AS adapter_id, '' AS adapter_hash,
               b.context_length, b.created_at
        FROM base b
        UNION ALL
        SELECT a.organisation_id, o.slug, false, a.name, 'adapter',
               b.id, b.slug || '/' || b.name, a.id, a.content_hash,
               b.context_length, a.created_at
        FROM adapters_adapter a
        JOIN accounts_organisation o ON o.id = a.organisation_id
        JOIN base b ON b.id = a.base_id
        WHERE a.state = 'ready'
    )
    SELECT c.org_id, c.org_slug, c.is_public, c.name, c.kind, c.model_id, c.base_ref, c.adapter_id,
           c.adapter_hash, c.context_length, p.id AS price_version_id, p.input_picousd,
           p.cached_input_picousd, p.output_picousd, c.created_at
    FROM callable c LEFT JOIN price p ON p.sku = c.model_id
"""
PLAN_PRICE = """
    WITH term AS (
        SELECT DISTINCT ON (owner_id) owner_id, plan_id FROM billing_planterm
        WHERE valid_from <= statement_timestamp() ORDER BY owner_id, valid_from DESC, id DESC
    )
    SELECT DISTINCT ON (term.owner_id, version.sku) term.owner_id AS org_id, version.sku AS model_id,
           version.id AS price_version_id, version.input_picousd, version.cached_input_picousd, version.output_picousd
    FROM term JOIN billing_priceversion version ON version.plan_id = term.plan_id AND version.plan_id <> ''
    WHERE version.valid_from <= statement_timestamp()
    ORDER BY term.owner_id, version.sku, version.valid_from DESC, version.id DESC
"""


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0003_gateway_limits"),
        ("billing", "0005_invoices_and_terms"),
    ]
    operations = [
        migrations.RunSQL(
            f"CREATE OR REPLACE VIEW gateway_key AS {KEY}", f"CREATE OR REPLACE VIEW gateway_key AS {OLD_KEY}"
        ),
        migrations.RunSQL(
            f"CREATE OR REPLACE VIEW gateway_balance AS {BALANCE}",
            f"CREATE OR REPLACE VIEW gateway_balance AS {OLD_BALANCE}",
        ),
        migrations.RunSQL(
            f"CREATE OR REPLACE VIEW gateway_model AS {MODEL.format(plan=OF_THE_BOOK)}",
            f"CREATE OR REPLACE VIEW gateway_model AS {MODEL.format(plan='')}",
        ),
        migrations.RunSQL(f"CREATE VIEW gateway_plan_price AS {PLAN_PRICE}", "DROP VIEW gateway_plan_price"),
    ]
