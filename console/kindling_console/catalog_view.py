"""What the catalog's page shows around its cards: the choices of each filter, the ways out, and where it stands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from kindling_console.answers import is_fragment
from kindling_platform.catalog.offers import TASKS, Offer
from kindling_platform.catalog.wishes import Wish, size_words, wish_of

SIZES = ("-1", "1-4", "4-10", "10-40", "40-")
CONTEXTS = (4096, 8192, 32768, 131072)
ORDER_WORDS = {"name": "By name", "price": "Cheapest", "context": "Longest context", "newest": "Newest"}
# What a filter is called where its value cannot be read.
FILTER_WORDS = {
    "q": "Search", "task": "Task", "size": "Size", "context": "Context", "price_max": "Price ceiling",
    "licence": "Licence", "lora": "LoRA-ready", "warm": "Warm", "sort": "Order",
}  # fmt: skip
TYPED = ("q", "price_max")
Options = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WayOut:
    """A filter to drop, how many models there are then, and their address."""

    url: str
    words: str
    count: int


def choices_of(wish: Wish, offers: Iterable[Offer]) -> dict[str, Options]:
    """The options of each filter. One that the address has and the list has not is an option like the others."""
    licences = {
        offer.model.licence.casefold(): offer.model.licence for offer in offers if offer.model.licence
    }
    return {
        "task": list(TASKS.items()),
        "size": _with_own([(size, _size_words(size)) for size in SIZES], wish.size, _size_words),
        "context": _with_own(
            [(str(tokens), _context_words(tokens)) for tokens in CONTEXTS],
            str(wish.context or ""),
            lambda text: _context_words(int(text)),
        ),
        "licence": _with_own(
            [(licence, licence) for _, licence in sorted(licences.items())],
            licences.get(wish.licence.casefold(), wish.licence),
            str,
        ),
        "sort": list(ORDER_WORDS.items()),
    }


def asked_of(
    request: HttpRequest, wish: Wish, wrong: Sequence[str], choices: dict[str, Options]
) -> dict[str, str]:
    """What stands in the form: the wish, and what was typed where it could not be read."""
    asked = wish.query() | {name: request.GET.get(name, "") for name in wrong if name in TYPED}
    # A licence is chosen as the list writes it, however the address does.
    own = asked.get("licence", "").casefold()
    asked["licence"] = next((value for value, _ in choices["licence"] if value.casefold() == own), "")
    return asked | {"sort": wish.sort}


def ways_out(wish: Wish, offers: Sequence[Offer]) -> list[WayOut]:
    """The filters to drop when nothing is left, the most helpful first."""
    query = wish.query()
    return [
        WayOut(
            address({name: text for name, text in query.items() if name != drop.name}), drop.words, drop.count
        )
        for drop in wish.drops(offers)
    ]


def address(query: dict[str, str]) -> str:
    """The catalog's address with these parameters."""
    url = reverse("console:catalog")
    return f"{url}?{urlencode(query)}" if query else url


def stand(request: HttpRequest, response: HttpResponse, wish: Wish) -> HttpResponse:
    """Have the browser's address say what is shown: each choice is a step to go back by, a typed letter is not."""
    if is_fragment(request):
        here = request.headers.get("HX-Current-URL", "").partition("?")[2].partition("#")[0]
        before, _ = wish_of(QueryDict(here).dict())
        is_typing = replace(before, q=wish.q, price_max=wish.price_max) == wish
        response["HX-Replace-Url" if is_typing else "HX-Push-Url"] = address(wish.query())
    return response


def _with_own(options: Options, value: str, words: Callable[[str], str]) -> Options:
    if not value or any(value == known for known, _ in options):
        return options
    return [*options, (value, words(value))]


def _size_words(size: str) -> str:
    words = size_words(size)
    return words[:1].upper() + words[1:]


def _context_words(tokens: int) -> str:
    text = f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"
    return f"{text} and more"
