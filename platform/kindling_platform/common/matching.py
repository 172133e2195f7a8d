"""Which things a person means who types a part of a name, and which of them come first."""

from functools import reduce
from operator import and_, or_
from typing import Any

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When

MAX_WORDS = 6
# How well a name fits, best first: it is what was typed, begins with it, has a word that does, has it somewhere.
IS, BEGINS, WORD_BEGINS, HAS = range(4)
# What stands before a word in names and addresses.
MARKS = (" ", "-", "_", "/", ".")


def words_of(query: str) -> list[str]:
    """What was typed, word by word; a database takes no NUL."""
    return query.replace("\0", " ").split()[:MAX_WORDS]


def best_first(
    rows: QuerySet[Any], query: str, *, fields: tuple[str, ...], exact: tuple[str, ...] = ()
) -> QuerySet[Any]:
    """The rows that have each word of `query` in one of these fields, those that fit best first, then as they were.

    Of the `exact` fields a part says nothing. Each row has in `match` how well it fits. Whoever types nothing finds
    nothing.
    """
    words = words_of(query)
    if not words:
        return rows.none()
    whole = " ".join(words)
    named = reduce(and_, (_in_one_of(fields, "icontains", word) for word in words))
    rows = rows.filter(named | _in_one_of(exact, "iexact", whole) if exact else named)
    word_begins = reduce(or_, (_in_one_of(fields, "icontains", f"{mark}{whole}") for mark in MARKS))
    match = Case(
        When(_in_one_of(fields + exact, "iexact", whole), then=Value(IS)),
        When(_in_one_of(fields, "istartswith", whole), then=Value(BEGINS)),
        When(word_begins, then=Value(WORD_BEGINS)),
        default=Value(HAS),
        output_field=IntegerField(),
    )
    found: QuerySet[Any] = rows.annotate(match=match).order_by("match", *rows.query.order_by)
    return found


def match_of(query: str, *texts: str) -> int | None:
    """The same of texts that are in no table; None where they do not have each word."""
    words, plain = words_of(query.casefold()), [text.casefold() for text in texts]
    if not words or not all(any(word in text for text in plain) for word in words):
        return None
    whole = " ".join(words)
    if whole in plain:
        return IS
    if any(text.startswith(whole) for text in plain):
        return BEGINS
    return WORD_BEGINS if any(f"{mark}{whole}" in text for text in plain for mark in MARKS) else HAS


def _in_one_of(fields: tuple[str, ...], lookup: str, text: str) -> Q:
    return reduce(or_, (Q(**{f"{field}__{lookup}": text}) for field in fields))
