"""Fixtures that every Django test may use."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from kindling_examples import examples

# How long an example takes is the machine's affair, and that of what runs beside it.
settings.register_profile(
    "kindling", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kindling")

PROTECTED = (
    "billing_ledgertransaction",
    "billing_ledgerentry",
    "billing_ledgeraccount",
    "billing_priceversion",
    "billing_planterm",
    "billing_hourcost",
    "billing_hostedprice",
    "audit_auditevent",
)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Between transactional tests tables are emptied, which ledger and audit log refuse; tests may."""
    from django.conf import settings
    from django.db import connection

    from kindling_emptying import emptying_install

    # The real one takes half a second on purpose, and tests sign up a thousand people.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # Static files are found when they are asked for: each client of a test would look through all of them first.
    settings.WHITENOISE_AUTOREFRESH = True

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table in PROTECTED:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_not_emptied")
        emptying_install()
    yield


@pytest.fixture(scope="module")
def module_rows(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """What fixtures of a module that ask for this write is there for each of its tests, which change it for themselves
    alone; not for transactional ones, as it is never committed.
    """
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def kept_rows(request: pytest.FixtureRequest) -> bool:
    """Whether each test of the module finds what is written now: not where one of them commits, as it would see none.

    A module whose tests ask who else is there says no.
    """
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    markers = [marker for item in items for marker in item.iter_markers("django_db")]
    if any(marker.kwargs.get("transaction") for marker in markers):
        return False
    request.getfixturevalue("module_rows")
    return True
