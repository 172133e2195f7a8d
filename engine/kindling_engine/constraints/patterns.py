"""Regular expressions of JSON Schema (ECMA-262) in the dialect of the grammar library (Rust's regex-syntax).

Most is the same. What would silently mean something else is rewritten: inside brackets, Rust nests classes and
knows the operators ``&&`` and ``~~``.
"""

from kindling_engine.constraints.library import limits, matcher

# Escapes that Rust reads as anchors or flags and ECMA as plain letters.
_RUST_ONLY = frozenset("AzZ<>QEae")


class PatternError(ValueError):
    """The expression asks for something that cannot be had."""


def pattern_translate(pattern: str) -> str:
    """The same expression for the library. Raises PatternError."""
    translated = _rewritten(pattern)
    message = matcher().validate_grammar(matcher().grammar_from_regex(translated), None, limits=limits())
    if message:
        # The last word of the expression parser; the lines around it quote the grammar.
        errors = [line[7:] for line in message.splitlines() if line.startswith("error: ")]
        raise PatternError(errors[0] if errors else "the library cannot read it")
    return translated


def _rewritten(pattern: str) -> str:
    out: list[str] = []
    position, in_class = 0, False
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            piece = _escape(pattern, position)
            out.append(_ecma_escape(piece))
            position += len(piece)
            continue
        if in_class and char in "[&~":
            out.append("\\" + char)
        elif in_class and char == "-" and pattern[position + 1 : position + 2] == "-":
            raise PatternError("two hyphens in a row inside brackets are not supported; escape them")
        else:
            out.append(char)
        if char == "[" and not in_class:
            in_class = True
            position += 1
            if pattern[position : position + 1] == "^":
                out.append("^")
                position += 1
            if pattern[position : position + 1] == "]":
                # ECMA's empty class; Rust takes the bracket for a member.
                raise PatternError("an empty pair of brackets is not supported")
            continue
        if char == "]" and in_class:
            in_class = False
        position += 1
    return "".join(out)


def _escape(pattern: str, position: int) -> str:
    if position + 1 >= len(pattern):
        raise PatternError("the expression ends with a backslash")
    return pattern[position : position + 2]


def _ecma_escape(piece: str) -> str:
    char = piece[1]
    if char in _RUST_ONLY:
        return char
    if char == "/":
        return "/"
    if char == "c" or char.isdigit():
        raise PatternError(f"{piece} is not supported")
    return piece
