"""What a client asks for in an address: words, choices, days and months; what cannot be one is refused by name."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time

from rest_framework.request import Request

from kindling_platform.common.errors import KindlingError

MOST_CHARS = 120
YEARS = range(2000, 2200)
MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


def word_asked(request: Request, name: str) -> str:
    """A word, "" when there is none.

    Raises:
        KindlingError: `parameter_invalid`.
    """
    text: str = request.query_params.get(name, "").strip()
    if len(text) > MOST_CHARS or "\0" in text:
        raise _refused(name, f"Give up to {MOST_CHARS} characters.")
    return text


def choice_asked(request: Request, name: str, choices: Iterable[str], *, default: str = "") -> str:
    """One of some words, `default` when there is none.

    Raises:
        KindlingError: `parameter_invalid`.
    """
    text, known = word_asked(request, name), list(choices)
    if text and text not in known:
        raise _refused(name, f"Choose among {', '.join(known)}.")
    return text or default


def whole_asked(request: Request, name: str, *, default: int, most: int) -> int:
    """A whole number from 1 to `most`.

    Raises:
        KindlingError: `parameter_invalid`.
    """
    text = word_asked(request, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise _refused(name, f"Give a whole number from 1 to {most}.")
    return int(text)


def day_asked(request: Request, name: str) -> datetime | None:
    """The midnight (UTC) with which a day begins, None when there is none.

    Raises:
        KindlingError: `parameter_invalid`.
    """
    text = word_asked(request, name)
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise _refused(name, "Give a day such as 2026-11-30.") from error
    # Far from the ends of the calendar, so that a day may be added.
    if day.year not in YEARS:
        raise _refused(name, f"Give a day of the years {YEARS[0]} to {YEARS[-1]}.")
    return datetime.combine(day, time(), UTC)


def month_asked(request: Request, name: str, *, default: date) -> date:
    """The first day of a month.

    Raises:
        KindlingError: `parameter_invalid`.
    """
    text = word_asked(request, name)
    named = MONTH.fullmatch(text)
    if text and not named:
        raise _refused(name, "Give a month such as 2026-11.")
    return date(int(named[1]), int(named[2]), 1) if named else default


def _refused(name: str, text: str) -> KindlingError:
    return KindlingError("parameter_invalid", text, param=name)
