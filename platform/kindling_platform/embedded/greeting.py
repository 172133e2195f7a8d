"""What a user sees when everything runs: an address, a login, a key and a line that works."""

import json
import shlex
from typing import Any

from rich.text import Text

from kindling_platform.embedded.first_token import PATHS, example_body
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.state import State


def greeting_print(progress: Progress, state: State, facts: dict[str, Any], *, stand_in: bool) -> None:
    """The password stands here once, at the first start; nobody can read it again afterwards."""
    say = progress.say
    password = facts.get("operator_password")
    login = f"password {password}" if password else "(`./kindling reset-operator` makes a new password)"
    surface = facts["surface"]
    body = json.dumps(example_body(state.model, surface, max_tokens=120))
    say()
    say(Text.assemble("  Console    ", (state.url, "bold cyan")))
    say(Text.assemble("  Operator   ", (facts["operator_email"], "bold"), f"  {login}"))
    say(Text.assemble("  API key    ", (state.api_key, "bold")))
    if stand_in:
        say("  Payments   test mode: a stand-in for Stripe, no money moves (set KINDLING_STRIPE_SECRET_KEY)")
    if state.first_token_s is None:
        say(
            f"\n  Running after {state.start_s:.1f} s, but the first token or its bill failed; the reason stands above."
            " Ctrl-C stops everything.\n"
        )
        return
    say(f"\n  Ready in {state.start_s:.1f} s. Ctrl-C stops everything. Try:\n")
    line = (
        f"curl {state.url}{PATHS[surface]} "
        f"-H {shlex.quote(f'Authorization: Bearer {state.api_key}')} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    say(f"{line}\n")
