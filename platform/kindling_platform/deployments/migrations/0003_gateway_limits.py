"""What the gateway may read of limits: they come with the key, and what was spent is summed when Valkey has lost it."""

from django.db import migrations

OLD_KEY = """
    SELECT k.digest, k.id AS key_id, o.id AS org_id, o.slug AS org_slug, o.salt AS org_salt,
           k.scopes::text[] AS scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
           o.suspended_at IS NOT NULL AS suspended
    FROM keys_apikey k JOIN accounts_organisation o ON o.id = k.organisation_id
"""
KEY = """
    SELECT k.digest, k.id AS key_id, o.id AS org_id, o.slug AS org_slug, o.salt AS org_salt,
           k.scopes::text[] AS scopes, k.expires_at, k.revoked_at IS NOT NULL AS revoked,
           o.suspended_at IS NOT NULL AS suspended,
           k.created_by_id AS member_id, k.epoch, k.model_refs::text[] AS models,
           coalesce(k.family_id, k.id) AS limits_key_id,
           (SELECT jsonb_agg(jsonb_build_object(
                'scope', CASE WHEN l.key_id IS NOT NULL THEN 'key'
                              WHEN l.member_id IS NOT NULL THEN 'member' ELSE 'organisation' END,
                'requests_per_minute', l.requests_per_minute,
                'prompt_tokens_per_minute', l.prompt_tokens_per_minute,
                'uncached_tokens_per_minute', l.uncached_tokens_per_minute,
                'generated_tokens_per_minute', l.generated_tokens_per_minute,
                'concurrent_requests', l.concurrent_requests,
                'budget_day_picousd', l.budget_day_picousd,
                'budget_month_picousd', l.budget_month_picousd,
                'budget_total_picousd', l.budget_total_picousd))
            FROM keys_limitset l
            WHERE l.organisation_id = k.organisation_id
              AND (l.key_id = coalesce(k.family_id, k.id)
                   OR (l.key_id IS NULL AND (l.member_id IS NULL OR l.member_id = k.created_by_id)))) AS limits
    FROM keys_apikey k JOIN accounts_organisation o ON o.id = k.organisation_id
"""
SPENDING = """
    SELECT h.organisation_id AS org_id, coalesce(k.family_id, h.key_id) AS key_id, k.created_by_id AS member_id,
           h.hour, h.cost_picousd
    FROM usage_usagehour h LEFT JOIN keys_apikey k ON k.id = h.key_id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0002_gateway_views"),
        ("keys", "0002_limits"),
    ]
    operations = [
        migrations.RunSQL(
            f"CREATE OR REPLACE VIEW gateway_key AS {KEY}",
            f"DROP VIEW gateway_key; CREATE VIEW gateway_key AS {OLD_KEY}",
        ),
        migrations.RunSQL(f"CREATE VIEW gateway_spending AS {SPENDING}", "DROP VIEW gateway_spending"),
    ]
