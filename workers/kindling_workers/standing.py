"""Looks at every component of the status page and keeps what it finds: two requests to our own port, a few queries.

Both requests go the way that customers' do, as far as this machine has it: the gateway says how it is, and the page for
signing in is a page of the console that asks the database.
"""

from urllib.parse import urlsplit

import orjson
from django.conf import settings

from kindling_platform.common.clock import now
from kindling_platform.status.components import API, CONSOLE, DOWN, LIMITED, UP, Seen
from kindling_platform.status.observing import billing_look, checks_look, models_look
from kindling_platform.status.samples import samples_keep
from kindling_workers.http import HttpAnswer, HttpUnreachable, http_call

API_PATH, CONSOLE_PATH = "/healthz", "/accounts/login/"
ANSWER_S = 5.0
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  # what it listens on, not what we do


def components_look() -> list[Seen]:
    """What every component is like now; one that nobody can tell of is left out."""
    moment = now()
    return [
        api_read(_ask(API_PATH)),
        console_read(_ask(CONSOLE_PATH)),
        billing_look(at=moment),
        checks_look(at=moment),
        *models_look(at=moment),
    ]


def components_sample() -> int:
    """Look, and keep it; gives the number of components."""
    moment, seen = now(), components_look()
    samples_keep(seen, at=moment)
    return len(seen)


def api_read(answer: HttpAnswer | None) -> Seen:
    """The gateway's own word on its health."""
    if answer is None or answer.status != 200:
        return Seen(API, DOWN)
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return Seen(API, DOWN)
    if isinstance(said, dict) and said.get("status") == "ok":
        return Seen(API, UP)
    return Seen(API, LIMITED, "Requests may be slow or refused for a moment.")


def console_read(answer: HttpAnswer | None) -> Seen:
    """A page that came whole; any other answer than the page is as good as none."""
    return Seen(CONSOLE, UP if answer is not None and answer.status == 200 else DOWN)


def own_url() -> str:
    """Where this machine reaches its own web port."""
    env = settings.KINDLING_ENV
    named = str(getattr(settings, "KINDLING_GATEWAY_URL", ""))
    host = "127.0.0.1" if env.host in EVERYWHERE else env.host
    return named or f"http://{f'[{host}]' if ':' in host else host}:{env.port}"


def _ask(path: str) -> HttpAnswer | None:
    # The name that Django takes for ours, whichever address it listens on.
    host = urlsplit(settings.KINDLING_ENV.public_url).netloc
    try:
        return http_call(
            "GET",
            f"{own_url()}{path}",
            headers={"host": host},
            connect_timeout_s=ANSWER_S,
            timeout_s=ANSWER_S,
        )
    except HttpUnreachable:
        return None
