"""The index of error codes has every code that an API answers with, and no other."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kindling_engine.server.errors import _STATUS_OF_CORE_CODE
from kindling_platform.api.errors import CODES
from kindling_platform.common.error_index.entries import error_entries, error_url
from kindling_platform.gateway.auth import SUSPENSIONS
from kindling_platform.gateway.limits.deadline import deadline_exceeded

ROOT = Path(__file__).parents[2]
SOURCES = ("platform/kindling_platform", "billing/kindling_billing", "engine/kindling_engine")
NO_API = ("embedded", "cli")
# Where the code stands among the arguments. The status is the number among them; 400 where there is none.
RAISED = {"GatewayError": 1, "BodyUnreadError": 1, "ApiError": 1, "KindlingError": 0, "BillingError": 0}
# Of the books and their jobs, of imports by the command line, and of starting: no API raises them.
INSIDE = {
    *(
        "unbalanced",
        "unknown_account",
        "currency_unsupported",
        "id_invalid",
        "tax_unknown",
        "payment_mismatch",
    ),
    *("dispute_too_large", "dispute_unknown", "month_open", "month_closed", "month_invalid"),
    *("model_folder_invalid", "model_changed", "name_taken"),
    *(
        "email_taken",
        "slug_taken",
        "operator_missing",
        "operator_address_taken",
        "key_exists",
        "key_malformed",
    ),
}

# The place that raises them chooses among several.
CHOSEN = {"request_refused", "engine_failed", "invalid_request"}


def raised() -> Iterator[tuple[str, int, str]]:
    """Each code that is raised, its status, and where."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT)
            if set(NO_API) & set(where.parts):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (found := raised_by(node)):
                    yield *found, f"{where}:{node.lineno}"


def raised_by(call: ast.Call) -> tuple[str, int] | None:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    own = [value.value for value in call.args if isinstance(value, ast.Constant)]
    if name == "__init__" and len(own) > 1 and isinstance(own[0], int):  # an error's own kind of error
        return str(own[1]), own[0]
    at = RAISED.get(name)
    if at is None or len(call.args) <= at:
        return None
    code = getattr(call.args[at], "value", None)
    if not isinstance(code, str):
        return None
    statuses = [value for value in own if isinstance(value, int)]
    return code, statuses[0] if statuses else 400


@cache
def answered() -> dict[str, dict[int, str]]:
    """What an API can answer with: the statuses of each code, and where each comes from."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for code, status, where in raised():
        found[code][status] = where
    for code, status in _STATUS_OF_CORE_CODE.items():
        found[code][status] = "the engine's core"
    for kind, code in CODES.items():
        found[code][kind.status_code] = "the REST framework"
    for code, _ in SUSPENSIONS.values():
        found[code][412] = "a suspension"
    late = deadline_exceeded()
    found[late.code][late.status] = "a deadline"
    return {code: statuses for code, statuses in found.items() if code not in INSIDE}


def test_every_code_is_in_the_index():
    missing = {code: where for code, where in answered().items() if code not in error_entries()}
    assert not missing


def test_every_code_has_the_statuses_that_it_comes_with():
    differing = {
        code: (set(error_entries()[code].statuses), where)
        for code, where in answered().items()
        if code in error_entries() and set(error_entries()[code].statuses) != set(where)
    }
    assert not differing


def test_the_index_has_no_code_that_nobody_raises():
    assert set(error_entries()) - set(answered()) == CHOSEN


def test_what_is_kept_out_of_the_index_is_raised_somewhere():
    assert {code for code, _, _ in raised()} >= INSIDE


@pytest.mark.parametrize("entry", error_entries().values(), ids=list(error_entries()))
def test_an_entry_is_short_and_whole(entry):
    assert entry.statuses and all(400 <= status < 600 for status in entry.statuses)
    for text in (entry.means, entry.do):
        assert 5 < len(text) <= 160
        assert text.endswith(".") and text.count("`") % 2 == 0


@pytest.mark.parametrize("code", ["no_such_code", "", None, 3, ["invalid_json"], {}])
def test_a_code_that_is_unknown_leads_nowhere(code):
    assert error_url("https://kindling.example.com", code) is None


def test_a_code_leads_to_its_entry():
    url = error_url("https://kindling.example.com", "invalid_json")
    assert url == "https://kindling.example.com/errors/#invalid_json"
