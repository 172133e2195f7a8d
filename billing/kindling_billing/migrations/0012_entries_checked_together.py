"""Entries are checked once per statement instead of row by row, and four indexes go that no query uses.

Nothing here reads a row: triggers are made, and constraints and indexes dropped, so that each lock is held for a
moment, however many rows there are.
"""

import django.db.models.deletion
from django.db import migrations, models

# The server plans the look-ups once per connection, maybe while tables are empty: it must not read them whole later.
CHECK = """
CREATE FUNCTION billing_check_entries() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE bad record;
BEGIN
    SELECT transaction_id, sum(amount_picousd) AS total INTO bad FROM added
        GROUP BY transaction_id HAVING sum(amount_picousd) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger transaction % sums to %, not to zero', bad.transaction_id, bad.total
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT named.id INTO bad FROM (SELECT DISTINCT transaction_id AS id FROM added) AS named
        WHERE NOT EXISTS (SELECT FROM billing_ledgertransaction AS cause WHERE cause.id = named.id) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'there is no ledger transaction %', bad.id USING ERRCODE = 'foreign_key_violation';
    END IF;
    SELECT named.id INTO bad FROM (SELECT DISTINCT account_id AS id FROM added) AS named
        WHERE NOT EXISTS (SELECT FROM billing_ledgeraccount AS account WHERE account.id = named.id) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'there is no ledger account %', bad.id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER billing_entries_checked AFTER INSERT ON billing_ledgerentry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_check_entries();

CREATE TRIGGER billing_ledgeraccount_rows_stay BEFORE DELETE OR UPDATE OF id ON billing_ledgeraccount
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER billing_ledgeraccount_not_emptied BEFORE TRUNCATE ON billing_ledgeraccount
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();

DROP TRIGGER billing_balanced ON billing_ledgerentry;
DROP FUNCTION billing_check_balanced();
"""
UNDO = """
CREATE FUNCTION billing_check_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE total numeric;
BEGIN
    SELECT coalesce(sum(amount_picousd), 0) INTO total FROM billing_ledgerentry WHERE transaction_id = NEW.transaction_id;
    IF total <> 0 THEN
        RAISE EXCEPTION 'ledger transaction % sums to %, not to zero', NEW.transaction_id, total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER billing_balanced AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_check_balanced();
DROP TRIGGER billing_ledgeraccount_rows_stay ON billing_ledgeraccount;
DROP TRIGGER billing_ledgeraccount_not_emptied ON billing_ledgeraccount;
DROP TRIGGER billing_entries_checked ON billing_ledgerentry;
DROP FUNCTION billing_check_entries();
"""
# They serve a search for the beginning of an id, which nobody makes.
PREFIXES = {
    "billing_ledgertransaction_id_fd3d7bf9_like": "billing_ledgertransaction (id varchar_pattern_ops)",
    "billing_ledgerentry_transaction_id_6585e310_like": "billing_ledgerentry (transaction_id varchar_pattern_ops)",
}


class Migration(migrations.Migration):
    dependencies = [("billing", "0011_refused_notices")]
    operations = [
        migrations.RunSQL(CHECK, UNDO),
        migrations.AlterField(
            "ledgerentry",
            "account",
            models.ForeignKey(
                db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT,
                related_name="entries", to="billing.ledgeraccount",
            ),
        ),
        migrations.AlterField(
            "ledgerentry",
            "transaction",
            models.ForeignKey(
                db_constraint=False, on_delete=django.db.models.deletion.PROTECT,
                related_name="entries", to="billing.ledgertransaction",
            ),
        ),
        *(
            migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {place}")
            for name, place in PREFIXES.items()
        ),
        # The months' totals change with every posting: a new state of a row finds room in its own page, and then needs
        # no new entries of indexes.
        migrations.RunSQL(
            "ALTER TABLE billing_usagetotal SET (fillfactor = 40)",
            "ALTER TABLE billing_usagetotal RESET (fillfactor)",
        ),
    ]  # fmt: skip
