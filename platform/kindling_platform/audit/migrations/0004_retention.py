"""The audit log may end where it began: rows older than a moment that the session names, and than ninety days, may go."""

from importlib import import_module

from django.db import migrations

FUNCTION = """
CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.created_at < nullif(current_setting('kindling.audit_kept_from', true), '')::timestamptz
           AND OLD.created_at < now() - interval '90 days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% on % is refused: the audit log is only ever added to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
"""
BEFORE = import_module("kindling_platform.audit.migrations.0002_protect_rows").FORWARD
OLD_FUNCTION = BEFORE[: BEFORE.index("CREATE TRIGGER")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_origin")]
    operations = [migrations.RunSQL(FUNCTION, OLD_FUNCTION)]
