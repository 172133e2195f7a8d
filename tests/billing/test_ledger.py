"""The ledger: every source once, every transaction to zero, balances equal to their entries, rows that stay."""

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import CheckViolation

from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting, postings_post, transaction_post
from kindling_billing.models import LedgerAccount, LedgerEntry, LedgerTransaction, PriceVersion
from kindling_billing.proofs import books_prove
from kindling_billing.selectors import balance_get, ledger_sum
from kindling_billing.services import credit_grant, price_publish

pytestmark = pytest.mark.django_db


def grant(owner: str, amount: int, source: str = "one") -> LedgerTransaction | None:
    return credit_grant(owner_id=owner, amount_picousd=amount, source_id=source, memo="Test", actor_id="")


def test_credit_reaches_the_wallet_once():
    assert grant("org_a", 500) is not None
    assert grant("org_a", 500) is None
    assert balance_get(owner_id="org_a").picousd == 500
    assert ledger_sum() == 0


@pytest.mark.parametrize("amount", [0, -1])
def test_credit_must_be_more_than_nothing(amount: int):
    with pytest.raises(BillingError) as refused:
        grant("org_a", amount)
    assert refused.value.code == "amount_invalid"


def test_an_unbalanced_posting_is_refused():
    with pytest.raises(BillingError) as refused:
        transaction_post(source_type="x", source_id="1", entries=[("wallet", "org_a", 5)], memo="")
    assert refused.value.code == "unbalanced"
    assert LedgerTransaction.objects.count() == 0


def entries_write(*rows: tuple[str, str, int]) -> None:
    """Write entries (transaction, account, pico-dollars) by one statement, past the services."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_ledgerentry (transaction_id, account_id, amount_picousd)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::numeric[])",
            [list(column) for column in zip(*rows, strict=True)],
        )


@pytest.fixture
def cause() -> str:
    for name in ("a", "b"):
        LedgerAccount.objects.create(id=f"lac_{name}", kind="wallet", owner_id=f"org_{name}")
    return LedgerTransaction.objects.create(source_type="x", source_id="1").id


def test_the_database_takes_a_balanced_transaction(cause: str):
    entries_write((cause, "lac_a", 7), (cause, "lac_b", -7))
    assert ledger_sum() == 0
    assert LedgerEntry.objects.count() == 2


def test_the_database_refuses_an_unbalanced_transaction(cause: str):
    with pytest.raises(DatabaseError, match=f"{cause} sums to 7, not to zero"):
        entries_write((cause, "lac_a", 7))
    other = LedgerTransaction.objects.create(source_type="x", source_id="2").id
    with pytest.raises(DatabaseError, match="not to zero"):
        entries_write((cause, "lac_a", 7), (other, "lac_b", -7))
    assert LedgerEntry.objects.count() == 0


def test_the_database_refuses_a_row_without_its_other_side_in_any_way_of_writing(cause: str):
    with pytest.raises(DatabaseError, match="not to zero"), transaction.atomic():
        LedgerEntry.objects.create(transaction_id=cause, account_id="lac_a", amount_picousd=7)
    with pytest.raises(DatabaseError, match="not to zero"), transaction.atomic():
        rows = [
            LedgerEntry(transaction_id=cause, account_id="lac_a", amount_picousd=amount) for amount in (7, -6)
        ]
        LedgerEntry.objects.bulk_create(rows)
    statement = "COPY billing_ledgerentry (transaction_id, account_id, amount_picousd) FROM STDIN"
    with (
        pytest.raises(CheckViolation, match="not to zero"),
        transaction.atomic(),
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        copy.write(f"{cause}\tlac_a\t7\n")
    assert LedgerEntry.objects.count() == 0


def test_the_database_refuses_entries_of_what_is_not_there(cause: str):
    with pytest.raises(DatabaseError, match="no ledger transaction ltx_none"):
        entries_write(("ltx_none", "lac_a", 7), ("ltx_none", "lac_b", -7))
    with pytest.raises(DatabaseError, match="no ledger account lac_none"):
        entries_write((cause, "lac_a", 7), (cause, "lac_none", -7))
    assert LedgerEntry.objects.count() == 0


@pytest.mark.parametrize("table", ["billing_ledgertransaction", "billing_ledgeraccount"])
def test_an_entry_whose_cause_or_account_is_missing_is_found_by_the_proofs(cause: str, table: str):
    entries_write((cause, "lac_a", 0), (cause, "lac_b", 0))
    assert books_prove().sound
    with connection.cursor() as cursor:
        # What only the owner of a broken or half restored database could do.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(f"DELETE FROM {table}")
        cursor.execute("SET LOCAL session_replication_role = origin")
    proof = books_prove()
    assert {one["check"] for one in proof.findings} == {"entries name what is there"}
    assert proof.checks["entries name what is there"] == 2


@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET id = 'lac_c'"])
@pytest.mark.usefixtures("cause")
def test_an_account_stays_what_entries_name(statement: str):
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format("billing_ledgeraccount"))
    assert LedgerAccount.objects.count() == 2


@pytest.mark.parametrize("model", [LedgerTransaction, LedgerEntry, PriceVersion])
@pytest.mark.parametrize("change", ["update", "delete"])
def test_posted_rows_never_change(model, change: str):
    grant("org_a", 500)
    price_publish(sku="mdl_a", input_picousd=1, cached_input_picousd=1, output_picousd=1)
    column = {"ledgertransaction": "memo", "ledgerentry": "amount_picousd", "priceversion": "output_picousd"}
    table = model._meta.db_table
    statement = {
        "update": f"UPDATE {table} SET {column[model._meta.model_name]} = {column[model._meta.model_name]}",
        "delete": f"DELETE FROM {table}",
    }[change]
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("model", [LedgerTransaction, LedgerEntry, LedgerAccount, PriceVersion])
def test_posted_rows_cannot_be_emptied(model):
    table = model._meta.db_table
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_not_emptied")
        cursor.execute(f"TRUNCATE {table} CASCADE")


OWNERS = st.sampled_from(["org_a", "org_b", "org_c"])
POSTINGS = st.lists(st.tuples(st.integers(0, 12), OWNERS, st.integers(-(10**18), 10**18)), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(POSTINGS, max_size=4))
def test_balances_are_the_sum_of_the_first_posting_of_each_source(batches):
    with transaction.atomic():
        seen: dict[int, tuple[str, int]] = {}
        for batch in batches:
            postings_post(
                [
                    Posting("test", str(source), [("wallet", owner, amount), ("revenue", "", -amount)])
                    for source, owner, amount in batch
                ]
            )
            fresh = {source: (owner, amount) for source, owner, amount in batch if source not in seen}
            seen |= fresh
        for account in LedgerAccount.objects.filter(kind="wallet"):
            expected = sum(amount for owner, amount in seen.values() if owner == account.owner_id)
            assert int(account.balance_picousd) == expected
        assert ledger_sum() == 0
        assert LedgerTransaction.objects.count() == len(seen)
        transaction.set_rollback(True)
