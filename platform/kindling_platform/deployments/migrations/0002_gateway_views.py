"""What the gateway may read: four views with fixed columns, so that tables can change behind them."""

from django.db import migrations

VIEWS = {
    "gateway_key": """
        SELECT k.digest, k.id AS key_id, o.id AS org_id, o.slug AS org_slug, o.salt AS org_salt,
               k.scopes::text[] AS scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
               o.suspended_at IS NOT NULL AS suspended
        FROM keys_apikey k JOIN accounts_organisation o ON o.id = k.organisation_id
    """,
    "gateway_model": """
        WITH price AS (
            SELECT DISTINCT ON (sku) sku, id, input_picousd, cached_input_picousd, output_picousd
            FROM billing_priceversion WHERE valid_from <= statement_timestamp() ORDER BY sku, valid_from DESC, id DESC
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
    """,
    "gateway_replica": """
        SELECT d.id AS deployment_id, d.name AS deployment_name, o.id AS org_id, o.slug AS org_slug,
               d.model_id, r.name AS replica_name, r.url
        FROM deployments_replica r
        JOIN deployments_deployment d ON d.id = r.deployment_id
        JOIN accounts_organisation o ON o.id = d.organisation_id
        WHERE r.state = 'ready' AND d.desired_state = 'running' AND r.generation = d.generation AND r.url <> ''
    """,
    "gateway_balance": """
        SELECT o.id AS org_id, coalesce(a.balance_picousd, 0) AS balance_picousd, coalesce(a.version, 0) AS version
        FROM accounts_organisation o
        LEFT JOIN billing_ledgeraccount a ON a.kind = 'wallet' AND a.owner_id = o.id
    """,
}


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0001_initial"),
        ("keys", "0001_initial"),
        ("adapters", "0001_initial"),
        ("usage", "0001_initial"),
        ("billing", "0002_protect_rows"),
    ]
    operations = [
        migrations.RunSQL(f"CREATE VIEW {name} AS {query}", f"DROP VIEW {name}") for name, query in VIEWS.items()
    ]
