"""What a user sees when everything runs: an address, a login, a key and a line that works."""

import json
import shlex
from collections.abc import Callable
from typing import Any

from rich.text import Text

from kindling_platform.embedded.first_token import FirstToken
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.state import State


def greeting_print(
    progress: Progress, state: State, facts: dict[str, Any], proof: FirstToken | None, *, stand_in: bool
) -> None:
    """The password stands here once, at the first start; nobody can read it again afterwards.

    `proof` is None where no token came, or none was billed.
    """
    say = progress.say
    password = facts.get("operator_password")
    login = f"password {password}" if password else "(`./kindling reset-operator` makes a new password)"
    say()
    say(Text.assemble("  Console    ", (state.url, "bold cyan")))
    say(Text.assemble("  Operator   ", (facts["operator_email"], "bold"), f"  {login}"))
    say(Text.assemble("  API key    ", (state.api_key, "bold")))
    _others_print(say, state.model, facts)
    if stand_in:
        say("  Payments   test mode: a stand-in for Stripe, no money moves (set KINDLING_STRIPE_SECRET_KEY)")
    if proof is None:
        say(
            f"\n  Running after {state.start_s:.1f} s, but the first token or its bill failed; the reason stands above."
            " Ctrl-C stops everything.\n"
        )
        return
    if proof.refused:
        text = f"\n  {state.model} answers, but not what it is asked at each start: {proof.refused}"
        say(Text(text, style="bold yellow"))
    say(f"\n  Ready in {state.start_s:.1f} s. Ctrl-C stops everything. Try:\n")
    line = (
        f"curl {state.url}{proof.path} "
        f"-H {shlex.quote(f'Authorization: Bearer {state.api_key}')} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(proof.body))}"
    )
    say(f"{line}\n")


def _others_print(say: Callable[[str | Text], None], model: str, facts: dict[str, Any]) -> None:
    """What takes memory beside the model that was asked for, and what was made for a former one."""
    running: dict[str, str] = facts["also_running"]
    if running:
        stop = f"./kindling deployments stop {next(iter(running)) if len(running) == 1 else '<name>'}"
        say(f"  Also running: {', '.join(_named(*one) for one in running.items())} (`{stop}`)")
    count = facts["adapters_unchecked"]
    if count:
        text = (
            f"  The files of {model} have changed: {count} adapter{'s' if count > 1 else ''} on it "
            f"{'were' if count > 1 else 'was'} checked against others, and may answer nonsense with these."
        )
        say(Text(text, style="bold yellow"))


def _named(deployment: str, model: str) -> str:
    """A model, and its deployment where that is called otherwise."""
    return model if model.rpartition("/")[2] == deployment else f"{model} as {deployment}"
