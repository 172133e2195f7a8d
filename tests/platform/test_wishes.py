"""What is wanted of a model: each filter, what cannot be read, the order, and which filter is to blame."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.models import PriceVersion
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.offers import ORDERS, TASKS, Offer
from kindling_platform.catalog.wishes import Wish, size_words, wish_of

CENT = 10_000  # pico-dollars per token, for a cent per million
BORN = datetime(2026, 1, 1, tzinfo=UTC)


def offer(
    name: str, price: tuple[int, int] | None = (10, 40), *, is_warm: bool = False, **facts: Any
) -> Offer:
    usual = {
        "display_name": name.title(), "description": "", "architecture": "LlamaForCausalLM", "task": "generate",
        "chat_ready": True, "context_length": 4096, "parameters": 7 * 10**9, "licence": "MIT", "lora_ready": True,
        "created_at": BORN,
    }  # fmt: skip
    model = Model(id=f"mdl_{name}", organisation=Organisation(slug="kindling"), name=name, **(usual | facts))
    version = price and PriceVersion(input_picousd=price[0] * CENT, output_picousd=price[1] * CENT)
    return Offer(model, version or None, is_warm=is_warm)


OFFERS = [
    offer(
        "alpha", (10, 40), parameters=500_000_000, licence="Apache-2.0", created_at=BORN + timedelta(days=3)
    ),
    offer(
        "beta",
        (200, 300),
        context_length=131_072,
        parameters=70_600_000_000,
        description="Writes long prose.",
    ),
    offer(
        "gamma", (5, 900), task="embed", chat_ready=False, lora_ready=False, licence="", parameters=4 * 10**9
    ),
    offer("delta", (30, 40), chat_ready=False, is_warm=True, created_at=BORN + timedelta(days=9)),
    offer("epsilon", None, parameters=10**9, context_length=32_768),
]
EVERYTHING = {"alpha", "beta", "gamma", "delta", "epsilon"}


def chosen(**asked: str) -> list[str]:
    wish, errors = wish_of(asked)
    assert errors == []
    return [one.model.name for one in wish.choose(OFFERS)]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, EVERYTHING),
        ({"q": "", "task": "", "size": "", "context": "", "price_max": "", "licence": "", "lora": ""}, EVERYTHING),
        ({"q": "LONG prose"}, {"beta"}), ({"q": "prose nothing"}, set()), ({"q": "kindling/alpha"}, {"alpha"}),
        ({"q": "LlamaForCausalLM"}, set()), ({"q": "delta  kindling"}, {"delta"}),
        ({"task": "chat"}, {"alpha", "beta", "epsilon"}), ({"task": "embeddings"}, {"gamma"}),
        ({"task": "rerank"}, {"gamma"}), ({"task": "completions"}, EVERYTHING - {"gamma"}),
        ({"size": "-1"}, {"alpha", "epsilon"}), ({"size": "1-4"}, {"gamma", "epsilon"}),
        ({"size": "40-"}, {"beta"}), ({"size": "0.5-0.5"}, {"alpha"}), ({"size": "4.001-7"}, {"delta"}),
        ({"context": "4097"}, {"beta", "epsilon"}), ({"context": "131072"}, {"beta"}), ({"context": "0"}, EVERYTHING),
        # Neither input nor output may cost more; an embedding model makes no output; no price is no low price.
        ({"price_max": "0.40"}, {"alpha", "gamma", "delta"}), ({"price_max": "$3"}, EVERYTHING - {"epsilon"}),
        ({"price_max": "0.399999"}, {"gamma"}), ({"price_max": "0"}, set()),
        ({"licence": "mit"}, {"beta", "delta", "epsilon"}), ({"licence": "APACHE-2.0"}, {"alpha"}),
        ({"lora": "1"}, EVERYTHING - {"gamma"}), ({"lora": "false"}, EVERYTHING), ({"warm": "true"}, {"delta"}),
        ({"lora": "on", "task": "completions", "price_max": "1", "size": "-1"}, {"alpha"}),
        ({"unknown": "x"}, EVERYTHING),
    ],
)  # fmt: skip
def test_filters(asked: dict[str, str], names: set[str]):
    assert set(chosen(**asked)) == names


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("", ["alpha", "beta", "delta", "epsilon", "gamma"]),
        ("name", ["alpha", "beta", "delta", "epsilon", "gamma"]),
        ("price", ["alpha", "delta", "beta", "gamma", "epsilon"]),
        ("context", ["beta", "epsilon", "alpha", "delta", "gamma"]),
        ("newest", ["delta", "alpha", "beta", "epsilon", "gamma"]),
    ],
)
def test_orders(sort: str, names: list[str]):
    assert chosen(sort=sort) == names


@pytest.mark.parametrize(
    ("param", "values"),
    {
        "q": ["x" * 81, "a\0b"], "task": ["talk", "CHAT"], "size": ["4", "-", "4-1", "a-b", "1-4-8", "1e3-"],
        "context": ["-1", "4k", "1e3", "٤", "9" * 12], "price_max": ["much", "-1", "0.0000001", "1e400", "NaN"],
        "licence": ["x" * 81], "lora": ["maybe"], "warm": ["2"], "sort": ["size", "-name"],
    }.items(),
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_left_out(param: str, values: list[str]):
    for value in values:
        wish, errors = wish_of({param: value, "lora" if param != "lora" else "warm": "1"})
        assert [(error.code, error.status, error.param) for error in errors] == [
            ("parameter_invalid", 400, param)
        ]
        assert wish == (Wish(lora=True) if param != "lora" else Wish(warm=True)), value
        assert errors[0].message.endswith(".")


def drops(**asked: str) -> list[tuple[str, int]]:
    wish, _ = wish_of(asked)
    assert wish.choose(OFFERS) == []
    return [(drop.name, drop.count) for drop in wish.drops(OFFERS)]


def test_the_filters_to_blame_are_those_without_which_there_would_be_some():
    assert drops(task="embeddings", lora="1") == [("task", 4), ("lora", 1)]
    assert drops(q="alpha", context="131072", licence="apache-2.0") == [("context", 1)]
    assert drops(q="nothing") == [("q", 5)]
    # Two are to blame together: dropping one of them helps nobody.
    assert drops(q="nothing", size="900-") == []


def test_a_drop_is_said_in_words():
    wish, _ = wish_of({"size": "4-10", "price_max": "0.50", "context": "200000"})
    words = [one.words for one in wish.filters(OFFERS)]
    assert words == ["the size (4B to 10B)", "the context of 200,000 tokens", "the price ceiling of $0.5"]
    assert [size_words(size) for size in ("-1", "40-")] == ["up to 1B", "40B and more"]


WISHES = st.builds(
    Wish,
    q=st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=20),
    task=st.sampled_from(["", *TASKS]),
    size=st.sampled_from(["", "-1", "1-4", "0.5-", "40-40"]),
    context=st.integers(0, 10**9),
    price_max=st.none() | st.integers(0, 10**12),
    licence=st.sampled_from(["", "MIT", "Apache-2.0"]),
    lora=st.booleans(),
    warm=st.booleans(),
    sort=st.sampled_from([*ORDERS]),
)


@given(wish=WISHES)
def test_an_address_says_all_of_a_wish_and_nothing_else(wish: Wish):
    again, errors = wish_of(wish.query())
    assert (again, errors) == (wish, [])
    passed = {one.model.id for one in wish.choose(OFFERS)}
    for drop in wish.drops(OFFERS):
        other, _ = wish_of({name: text for name, text in wish.query().items() if name != drop.name})
        assert len(other.choose(OFFERS)) == drop.count >= len(passed)
    assert Wish().choose(OFFERS) != [] and Wish().query() == {}
