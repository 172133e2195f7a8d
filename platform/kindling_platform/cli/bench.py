"""`kindling bench`: what can be measured; each bench runs elsewhere."""

import typer

from kindling_platform.cli.forward import forward, forward_argv

app = typer.Typer(no_args_is_help=True, help="Measure this machine, engine and platform.")
BENCHES = {
    "engine": "Speed of the engine under three loads, beside transformers and, with --peers, others.",
    "gateway": "CPU, latency and memory of the gateway before an engine that costs nothing.",
    "kernels": "Each kernel for Hopper GPUs beside its peers.",
    "lora": "Many adapters at once, beside the base model alone.",
    "rating": "A month posted to a ledger, invoiced, rated anew, every sum compared.",
    "reliability": "Servers taken away and processes killed under load; the books afterwards.",
    "serve": "The engine over HTTP, one stream and eight.",
    "spec": "Answers with tokens guessed ahead and without.",
    "structured": "JSON schemas: how many are enforced, and what it costs.",
    "upload": "From the start of an adapter's upload to its first token.",
    "usage": "Pages about usage over ten million requests.",
}


def run(context: typer.Context) -> None:
    forward(forward_argv(["bench", str(context.info_name), *context.args]) or [])


for name, what in BENCHES.items():
    app.command(
        name,
        help=what,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(run)
