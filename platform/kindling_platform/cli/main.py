"""The `kindling` command and its subcommands."""

import sys

from kindling_platform.cli.forward import forward, forward_argv


def main() -> None:
    """Forwarded commands go first: they need none of the rest, which takes time to load."""
    other = forward_argv(sys.argv[1:])
    if other is not None:
        forward(other)
    from kindling_platform.cli.app import app
    from kindling_platform.cli.errors import CliError
    from kindling_platform.cli.program import PROGRAM

    try:
        app(prog_name=PROGRAM)
    except CliError as error:
        print(f"{error.message}" + (f"  [{error.code}]" if error.code else ""), file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(141)
