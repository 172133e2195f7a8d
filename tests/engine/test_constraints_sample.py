"""Every schema of the sample is kept for every instance, or refused by keyword."""

import json

import jsonschema
import numpy as np
import pytest

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar import CompiledGrammar
from kindling_grammars import accepts, compiler, random_text
from kindling_schema_bench import LAYOUTS, Case, cases_load

CASES = cases_load()
SPREAD = CASES[::8]
# Counted on the whole sample; a keyword more or less shows here.
ENFORCED, REFUSED = 466, 21


def compiled(case: Case) -> CompiledGrammar | ConstraintError:
    try:
        return compiler().compile("json_schema", case.text)
    except ConstraintError as error:
        return error


def wrong(case: Case, grammar: CompiledGrammar, layouts: tuple) -> list[str]:
    return [
        text
        for layout in layouts
        for text, valid in case.texts(**layout)
        if accepts(grammar, text) is not valid
    ]


def check_random_texts(case: Case, grammar: CompiledGrammar, seed: int) -> bool:
    """Whatever the masks let through matches the schema."""
    text = random_text(grammar, np.random.default_rng(seed))
    if text is None:
        return False
    kind = jsonschema.validators.validator_for(case.schema, default=jsonschema.Draft202012Validator)
    kind(case.schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))
    return True


def test_the_sample_is_all_there():
    assert len(CASES) == 487
    assert sum(valid for case in CASES for _, valid in case.instances) > 550
    assert sum(not valid for case in CASES for _, valid in case.instances) > 750


@pytest.mark.parametrize("case", SPREAD, ids=lambda case: case.name)
def test_a_schema_is_kept_or_refused_by_keyword(case: Case):
    grammar = compiled(case)
    if isinstance(grammar, ConstraintError):
        assert grammar.code in ("unsupported_schema", "invalid_schema")
        assert "(at #/" in grammar.message or "No JSON value" in grammar.message
        return
    assert wrong(case, grammar, LAYOUTS[:2]) == []


@pytest.mark.parametrize("part", range(4))
def test_random_texts_of_schemas_match_them(part: int):
    texts = 0
    for case in SPREAD[part::4]:
        grammar = compiled(case)
        if isinstance(grammar, CompiledGrammar):
            texts += check_random_texts(case, grammar, seed=part)
    assert texts >= 10


@pytest.mark.long
def test_the_whole_sample_is_kept_or_refused():
    enforced, refused = [], {}
    for case in CASES:
        grammar = compiled(case)
        if isinstance(grammar, ConstraintError):
            refused[case.name] = grammar.message
            assert "(at #/" in grammar.message or "No JSON value" in grammar.message, case.name
        else:
            enforced.append(case)
            assert wrong(case, grammar, LAYOUTS) == [], case.name
    assert (len(enforced), len(refused)) == (ENFORCED, REFUSED)


@pytest.mark.long
def test_random_texts_of_the_whole_sample_match():
    texts = 0
    for case in CASES:
        grammar = compiled(case)
        if isinstance(grammar, CompiledGrammar):
            texts += sum(check_random_texts(case, grammar, seed=seed) for seed in range(6))
    assert texts >= 2400
