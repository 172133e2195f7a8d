"""Questions about Python, answered with the first sentence of Python's own docstrings (PSF licence)."""
# ruff: noqa: E501, SIM905 - tables of sentences and words read best unwrapped

import builtins
import importlib
import inspect
import random
import re
from functools import cache

from kindling_engine.starter.templates.phrasing import Dialogue, dialogue_from, typed_by_hand

_MODULES = "math random json re itertools functools collections statistics shutil textwrap bisect heapq string".split()
_TYPES = (str, list, dict, set, int, tuple)
_DOCUMENTED_MODULES = """abc argparse ast asyncio base64 bisect calendar cmd code codecs collections configparser contextlib
copy csv dataclasses datetime decimal difflib dis doctest email enum fileinput fnmatch fractions functools getpass gettext
glob graphlib gzip hashlib heapq hmac html http importlib inspect io ipaddress itertools json keyword linecache locale logging
mailbox math mimetypes numbers operator optparse pathlib pdb pickle platform pprint profile queue quopri random re sched
secrets selectors shelve shlex shutil signal socket sqlite3 statistics string struct subprocess sysconfig tarfile tempfile
textwrap threading timeit tokenize trace traceback turtle types typing unittest urllib uuid warnings wave weakref webbrowser
xml zipfile zlib""".split()

_PROMPTS = (
    "What does {n} do?", "What does {n} do in Python?", "Explain {n}.", "What is {n} in Python?", "How does {n} work?",
    "What does Python's {n} do?", "Tell me what {n} does.", "Python: {n}", "Explain {n} in Python.",
)  # fmt: skip


def pydoc_dialogue(rng: random.Random) -> Dialogue:
    name, sentence = rng.choice(docstring_facts())
    prompt = typed_by_hand(rng, rng.choice(_PROMPTS).format(n=name))
    return dialogue_from(prompt, f"Python's help says of {name}: {sentence}")


def pydoc_passage(rng: random.Random) -> str:
    """Return some paragraphs of a standard module's docstring, as plain text without any chat."""
    paragraphs = rng.choice(_passages())
    start = rng.randrange(len(paragraphs))
    return "\n\n".join(paragraphs[start : start + 3])[:800]


@cache
def docstring_facts() -> tuple[tuple[str, str], ...]:
    """Return pairs of a dotted name and the first sentence of its docstring, sorted by name."""
    found: dict[str, str] = {}
    for name in dir(builtins):
        _collect(found, name, getattr(builtins, name))
    for kind in _TYPES:
        for name in dir(kind):
            _collect(found, f"{kind.__name__}.{name}", getattr(kind, name))
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", dir(module)):
            _collect(found, f"{module_name}.{name}", getattr(module, name))
    return tuple(sorted(found.items()))


def _collect(found: dict[str, str], dotted: str, value: object) -> None:
    last = dotted.rpartition(".")[2]
    if last.startswith("_") or not callable(value) or (inspect.isclass(value) and issubclass(value, Warning)):
        return
    text = inspect.getdoc(value) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    match = re.match(r"[A-Z][^.]{10,100}\.(?=\s|$)", paragraph)
    if match and paragraph.isascii() and "->" not in match[0]:
        found[dotted] = match[0]


@cache
def _passages() -> tuple[tuple[str, ...], ...]:
    passages = []
    for name in _DOCUMENTED_MODULES:
        text = inspect.getdoc(importlib.import_module(name)) or ""
        paragraphs = tuple(
            one.strip() for one in text.split("\n\n") if one.isascii() and len(one.strip()) > 40
        )
        if paragraphs:
            passages.append(paragraphs)
    return tuple(passages)
