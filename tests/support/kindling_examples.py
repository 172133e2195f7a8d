"""How many examples a property is tried with: all of them beside the long loops, else a third."""

import os

# Set by ./kindling test --long.
LONG = "KINDLING_TESTS_LONG"


def examples(many: int) -> int:
    return many if os.environ.get(LONG) else many // 3
