"""The gateway's headers: read as they are meant, refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_engine.protocol.headers import EngineHeaders, HeaderError, parse_headers, salt_isolate

HASH = "ab" * 32


def test_all_headers_are_read():
    assert parse_headers(
        {
            "x-kindling-request": "0197-a",
            "x-kindling-adapter": HASH,
            "x-kindling-salt": "5a",
            "x-kindling-tenant": "org_1",
            "x-kindling-priority": "-3",
            "x-kindling-weight": "250",
            "x-kindling-grant": "512",
            "x-kindling-context": '{"org":"org_1"}',
        }
    ) == EngineHeaders("0197-a", HASH, "5a", "org_1", -3, 512, '{"org":"org_1"}', 2.5)


def test_the_clients_own_headers_are_read_too():
    mine = {"x-kindling-request": "r", "x-kindling-salt": "5a", "x-session-affinity": "s"}
    read = parse_headers(mine | {"x-prompt-cache-isolation-key": "k"})
    assert read == EngineHeaders("r", salt=salt_isolate("5a", "k"), ignored=("x-session-affinity",))
    assert read.salt not in ("5a", salt_isolate("5a", "l"), salt_isolate("5b", "k"))


def test_only_the_id_is_needed():
    assert parse_headers({"x-kindling-request": "r"}) == EngineHeaders("r")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-kindling-request", ""),
        ("x-kindling-request", "a" * 65),
        ("x-kindling-request", "é"),
        ("x-kindling-request", "a\nb"),
        ("x-kindling-adapter", "../../etc/passwd"),
        ("x-kindling-adapter", HASH.upper()),
        ("x-kindling-adapter", HASH + "0"),
        ("x-kindling-priority", "high"),
        ("x-kindling-weight", "0"),
        ("x-kindling-weight", "1.5"),
        ("x-kindling-priority", "1001"),
        ("x-kindling-grant", "0"),
        ("x-kindling-grant", "-5"),
        ("x-kindling-grant", "1e3"),
        ("x-kindling-grant", "9" * 5000),
        ("x-kindling-context", "é" * 513),
        ("x-kindling-salt", "s" * 257),
        ("x-prompt-cache-isolation-key", "k" * 257),
        ("x-kindling-tenant", "t" * 257),
    ],
)
def test_a_bad_header_is_refused_by_name(name: str, value: str):
    with pytest.raises(HeaderError, match=name):
        parse_headers({"x-kindling-request": "r", name: value})


@given(
    st.dictionaries(
        st.sampled_from(
            [f"x-kindling-{name}" for name in ("request", "adapter", "grant", "priority", "context")]
        ),
        st.text(max_size=80),
    )
)
def test_nothing_but_a_header_error_is_raised(headers: dict[str, str]):
    try:
        parsed = parse_headers(headers)
    except HeaderError:
        return
    assert parsed.request
