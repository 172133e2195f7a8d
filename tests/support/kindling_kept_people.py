"""The people of a module's tests: made once, as it takes longer than most of what is tested with them."""

import pytest

from kindling_people import Customer, make_customer, make_operator


@pytest.fixture(scope="module")
def kept_ada(kept_rows: bool) -> Customer | None:
    return make_customer("ada") if kept_rows else None


@pytest.fixture(scope="module")
def kept_bob(kept_rows: bool) -> Customer | None:
    return make_customer("bob") if kept_rows else None


@pytest.fixture(scope="module")
def kept_operator(kept_rows: bool) -> Customer | None:
    return make_operator() if kept_rows else None


@pytest.fixture
def ada(kept_ada: Customer | None, db: None) -> Customer:
    return kept_ada.again() if kept_ada else make_customer("ada")


@pytest.fixture
def bob(kept_bob: Customer | None, db: None) -> Customer:
    return kept_bob.again() if kept_bob else make_customer("bob")


@pytest.fixture
def operator(kept_operator: Customer | None, db: None) -> Customer:
    return kept_operator.again() if kept_operator else make_operator()
