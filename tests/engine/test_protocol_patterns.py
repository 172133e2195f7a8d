"""Expressions from strangers: they match what Python's do, and none of them takes long."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.protocol.adapter_rules import ModuleRules, RulesRefused, layer_of
from kindling_engine.protocol.patterns import Budget, Pattern, PatternRefused
from kindling_examples import examples

NAMES = [
    "model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "model.layers.2.mlp.experts.gate_up_proj",
    "model.language_model.layers.3.self_attn.k_proj", "model.visual.blocks.0.q_proj", "model.embed_tokens", "lm_head",
    "", "q", "q_proj", "aab", "aaaa", "x{", "]a", "a-c",
]  # fmt: skip
EXPRESSIONS = [
    r".*\.(q|down)_proj", r"(.*\.)?(.*\.gate_up_proj)$", r"(.*\.)?(^model.layers.0.*)$", r"model\.layers\.1?\d\..*",
    r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|k_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.self_attn.*)",
    r"^(model\.language_model(?=\.).*\.(q_proj|k_proj))$", r"^(?!.*visual).*q_proj$", r"\Bq|\bq.*", r"(?P<name>a+)b",
    "", "a{,2}b", "a{2,3}b?", "a{2}b|a{4,}", "x{", "[^a-c]+", "[]a]*", r"[\w.-]+", "(|a)*b", "(a+)+", r"a[-]c|\Aq\Z",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_common_expressions_match_as_in_python(text: str):
    pattern = Pattern(text, Budget())
    assert [pattern.fullmatch(name) for name in NAMES] == [bool(re.fullmatch(text, name)) for name in NAMES]


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\.", r"\b", r"\B", "^", "$", "_", ""])
expressions = st.recursive(
    atoms,
    lambda inner: (
        st.builds("{}{}".format, inner, inner)
        | st.builds("({}|{})".format, inner, inner)
        | st.builds("(?{}{})".format, st.sampled_from("=!"), inner)
        | st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "{,2}"]))
    ),
    max_leaves=7,
)


@settings(max_examples=examples(400), deadline=None)
@given(expressions, st.lists(st.text("ab._", min_size=1, max_size=6), min_size=4, max_size=4))
def test_any_expression_matches_as_in_python(text: str, names: list[str]):
    try:
        expected = [bool(re.fullmatch(text, name)) for name in names]
    except re.error:
        return
    pattern = Pattern(text, Budget())
    assert [pattern.fullmatch(name) for name in names] == expected


@settings(max_examples=examples(300), deadline=None)
@given(st.text("ab.*+?{}()[]|^$\\-,01=!<P:", max_size=12))
def test_any_text_is_refused_or_matches_as_in_python(text: str):
    try:
        pattern = Pattern(text, Budget())
    except PatternRefused:
        return
    assert [pattern.fullmatch(name) for name in NAMES] == [bool(re.fullmatch(text, name)) for name in NAMES]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"(a)\1", "not served"),
        ("(?<=a)b", "not served"),
        ("(?i)q", "not served"),
        ("a++", "repeated"),
        ("(", "not closed"),
        (")", "not opened"),
        ("[a", "too early"),
        ("*a", "repeats nothing"),
        ("é", "no module's name"),
        ("a" * 5000, "longer"),
        ("(" * 60 + ")" * 60, "too deeply"),
        ("((a{99}){99}){99}", "too large"),
        ("a{2000}", "more than 1000 times"),
    ],
)
def test_what_is_not_served_is_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(PatternRefused, match=reason):
        Pattern(text, Budget())


@pytest.mark.parametrize("text", ["(a+)+$", "(a|a)*b", "(a*)*(a*)*c", "(.*.*)*x"])
def test_expressions_that_make_others_backtrack_cost_a_step_per_character(text: str):
    budget = Budget()
    pattern = Pattern(text, budget)
    pattern.fullmatch("a" * 50)
    before = budget.left
    assert not pattern.fullmatch("a" * 150 + "!")
    assert before - budget.left < 150 * 20


@pytest.mark.parametrize("text", ["(a|b)*a(a|b){300}c", "(?=(a|b)*a(a|b){300}c).*", "(?=(?=(.*a)).*b).*c"])
def test_expressions_that_stay_dear_run_out_of_budget(text: str):
    budget = Budget(300_000)
    pattern = Pattern(text, budget)
    with pytest.raises(PatternRefused, match="too long"):
        for number in range(2**20):
            pattern.fullmatch(f"{number:0190b}".replace("0", "a").replace("1", "b"))


def test_the_first_key_that_matches_decides_as_in_peft():
    from peft.utils.other import get_pattern_key

    alphas = {
        "q_proj": 1,
        r".*\.0\..*": 2,
        "^model.layers.1.mlp.up_proj": 3,
        "mlp.up_proj": 4,
        "(up|down)_proj": 5,
    }
    rules = ModuleRules({"lora_alpha": 99, "alpha_pattern": alphas})
    for layer in range(3):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj", "mlp.down_proj"):
            path = f"model.layers.{layer}.{name}"
            assert rules.scale(path, 1) == alphas.get(get_pattern_key(alphas.keys(), path), 99), path


def test_modules_are_chosen_as_peft_chooses_them():
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    paths = [f"model.layers.{i}.{m}" for i in range(12) for m in ("self_attn.q_proj", "mlp.down_proj")]
    paths += [
        "model.layers.1.mlp.experts.3.down_proj",
        "model.embed_tokens",
        "lm_head",
        "model.h.1.mlp.down_proj",
    ]
    configs = [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["model.layers.1.mlp.down_proj", "1.self_attn.q_proj"]},
        {"target_modules": r".*\.1?[01]\..*proj"},
        {"target_modules": ["down_proj"], "exclude_modules": ["1.mlp.down_proj"]},
        {"target_modules": ["down_proj"], "exclude_modules": r"model\.layers\.\d\..*"},
        {"target_modules": ["down_proj", "q_proj", "lm_head"], "layers_to_transform": [1, 11]},
        {"target_modules": ["down_proj"], "layers_to_transform": 1, "layers_pattern": "layers"},
        {"target_modules": ["down_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "experts"]},
    ]
    for config in configs:
        rules = ModuleRules(config)
        expected = [bool(check_target_module_exists(LoraConfig(**config), path)) for path in paths]
        assert [rules.targeted(path) for path in paths] == expected, config


def test_layers_are_the_first_numbers():
    assert layer_of("model.layers.3.mlp.experts.7.up_proj") == 3
    assert layer_of("model.layers.3.mlp.experts.7.up_proj", ("experts",)) == 7
    assert layer_of("lm_head") is None and layer_of("h.3.attn") is None


def test_a_refusal_names_the_field():
    for field in ("alpha_pattern", "rank_pattern", "target_modules", "exclude_modules"):
        value = {"(?<=a)b": 3} if "pattern" in field else "(?<=a)b"
        with pytest.raises(RulesRefused, match=field):
            ModuleRules({field: value})
