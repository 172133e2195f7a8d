"""Renders chat messages with a model's own Jinja template, in a sandbox, as transformers would.

The names a template may use (`raise_exception`, `strftime_now`, a plain `tojson`, `{% generation %}`) are those that
published templates rely on. A template is a program of strangers: whoever serves requests runs it through
`template_process`, which bounds its time and memory; nothing here does.
"""

import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from kindling_engine.server.errors import invalid_value

# Under which names templates look for an earlier answer's reasoning.
REASONING_NAMES = ("reasoning_content", "thinking")
# What the rendering itself sets; nobody else may.
OWN_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})

_numbers = itertools.count()
_PROBE_CALL = {"name": "find", "arguments": {"kindling_probe": "v"}}
_PROBE_NAME = '"kindling_probe"'


class ChatTemplate:
    """A template and the special tokens it may name. It is compiled when it is first used."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.number = next(_numbers)  # tells it from every other template of this process
        self.source = source
        self.special_tokens = dict(special_tokens)

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        *,
        begins: bool = True,
    ) -> str:
        """The prompt's text, ending where the assistant ``begins``. Errors: `invalid_value` in the template's words.

        Arguments of tool calls come as objects; a template that would print them as they are gets JSON text.
        """
        if any("tool_calls" in message for message in messages) and self._prints_arguments:
            messages = [_with_argument_text(message) for message in messages]
        try:
            named = [_with_reasoning_names(one) for one in messages]
            return self._render(named, tools, variables or {}, begins=begins)
        except TemplateError as error:
            raise invalid_value(
                "messages", f"The model's chat template refused: {str(error)[:300]}"
            ) from None
        except Exception:  # a template is a program: it may fail in any way
            raise invalid_value(
                "messages", "The model's chat template cannot render these messages."
            ) from None

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        variables: Mapping[str, Any],
        *,
        begins: bool = True,
    ) -> str:
        names = {**self.special_tokens, **variables}
        own = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": begins}
        return self._template.render({**names, **own})

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that the template reads, the variables of a request among them. Nothing of it runs."""
        found = _environment().parse(self.source).find_all(nodes.Name)
        return frozenset(one.name for one in found if one.ctx == "load")

    @cached_property
    def shows_speakers(self) -> bool:
        """Whether it reads the ``name`` of messages, however it walks through them. Nothing of it runs."""
        tree = _environment().parse(self.source)
        walkers = {
            loop.target.name
            for loop in tree.find_all(nodes.For)
            if isinstance(loop.target, nodes.Name)
            and any(
                "messages" in one.name
                for one in (loop.iter, *loop.iter.find_all(nodes.Name))
                if isinstance(one, nodes.Name)
            )
        }
        return any(
            _reads_name(one, walkers) for one in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Call))
        )

    @cached_property
    def _template(self) -> Template:
        return _environment().from_string(self.source)

    @cached_property
    def _prints_arguments(self) -> bool:
        """Whether arguments must come as JSON text: tried once with both forms, objects win where both work."""
        as_objects = self._probe(_PROBE_CALL)
        if as_objects is not None and _PROBE_NAME in as_objects:
            return False
        as_text = self._probe({**_PROBE_CALL, "arguments": json.dumps(_PROBE_CALL["arguments"])})
        return as_text is not None and _PROBE_NAME in as_text

    def _probe(self, call: dict[str, Any]) -> str | None:
        # An id of nine letters and digits is what the strictest of published templates ask for.
        calls = [{"id": "probe0000", "type": "function", "function": call}]
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "name": "find", "tool_call_id": "probe0000", "content": "x"},
        ]
        parameters = {"type": "object", "properties": {}}
        function = {"name": "find", "description": "", "parameters": parameters}
        try:
            return self._render(messages, [{"type": "function", "function": function}], {})
        except Exception:  # it cannot be told from this conversation
            return None


def _reads_name(one: nodes.Node, walkers: set[str]) -> bool:
    """``m.name``, ``m['name']`` or ``m.get('name')`` of one of the ``walkers``."""
    if isinstance(one, nodes.Call):
        getter = one.node
        if not (isinstance(getter, nodes.Getattr) and getter.attr == "get" and one.args):
            return False
        holder, key = getter.node, one.args[0]
    elif isinstance(one, nodes.Getitem):
        holder, key = one.node, one.arg
    elif isinstance(one, nodes.Getattr):
        holder, key = one.node, nodes.Const(one.attr)
    else:
        return False
    is_walker = isinstance(holder, nodes.Name) and holder.name in walkers
    return is_walker and isinstance(key, nodes.Const) and key.value == "name"


def template_check(source: str) -> None:
    """Raises jinja2.TemplateError when a template's syntax is wrong. Nothing of it runs, not even its constants."""
    _environment().parse(source)


def _with_argument_text(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _tojson(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _with_reasoning_names(message: dict[str, Any]) -> dict[str, Any]:
    reasoning = message.get(REASONING_NAMES[0])
    return message if reasoning is None else {**dict.fromkeys(REASONING_NAMES, reasoning), **message}


class _GenerationBlock(Extension):
    """`{% generation %}` marks what an assistant said, for training; in serving it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PlainNamespace(Namespace):
    """A namespace without private names, which lead into the interpreter."""

    def __init__(*args: Any, **fields: Any) -> None:
        # `self` stays free to be a field's name.
        self, *rest = args
        given = dict(*rest, **fields)
        for name in given:
            _name_check(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _name_check(name)
        super().__setitem__(name, value)


def _name_check(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("a namespace's fields may not begin with an underscore")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _PlainNamespace
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # templates mean the server's day, as elsewhere
