"""A pattern that finds where any of many tokens begins, at a price that does not grow with their number."""

import re
from functools import lru_cache

# A text that has this much of a token counts as having the token, so that no place costs more steps than this.
PREFIX_CHARS = 64

_Node = dict[str, "_Node"]


@lru_cache(maxsize=16)
def token_pattern(tokens: frozenset[str]) -> re.Pattern[str] | None:
    """Matches the first character of every token in a text, also of those that overlap; None without tokens.

    Tokens of one character are left out: they cannot be cut.
    """
    tree = _tree({token[:PREFIX_CHARS] for token in tokens if len(token) > 1})
    if not tree:
        return None
    return re.compile(
        "|".join(f"{re.escape(char)}(?={_alternatives(rest)})" for char, rest in sorted(tree.items()))
    )


def _tree(tokens: set[str]) -> _Node:
    """What several tokens begin with is there once. A token that begins with another one is found by that one."""
    root: _Node = {}
    for token in tokens:
        if not any(token[:size] in tokens for size in range(2, len(token))):
            node = root
            for char in token:
                node = node.setdefault(char, {})
    return root


def _alternatives(node: _Node) -> str:
    """A pattern in which the next character alone decides how it goes on."""
    last = "".join(re.escape(char) for char, rest in sorted(node.items()) if not rest)
    options = [f"{re.escape(char)}{_alternatives(rest)}" for char, rest in sorted(node.items()) if rest]
    if last:
        options.append(f"[{last}]")
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"
