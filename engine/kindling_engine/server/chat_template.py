"""Renders chat messages with a model's own Jinja template, in a sandbox, as transformers would.

The names a template may use (`raise_exception`, `strftime_now`, a plain `tojson`, `{% generation %}`) are those that
published templates rely on.
"""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kindling_engine.server.errors import ApiError, invalid_value

MAX_TEMPLATE_BYTES = 1024 * 1024
TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class ChatTemplate:
    """A compiled template and the special tokens it may name."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        self._template = _compile(source)
        self._special_tokens = special_tokens

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The prompt's text, ending where the assistant begins. Errors: `invalid_value` in the template's words."""
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special_tokens,
            )
        except TemplateError as error:
            raise invalid_value(
                "messages", f"The model's chat template refused: {str(error)[:300]}"
            ) from None
        except Exception:  # a template is a program: it may fail in any way
            raise invalid_value(
                "messages", "The model's chat template cannot render these messages."
            ) from None


def chat_template_load(folder: Path) -> ChatTemplate | None:
    """The template of a model folder, None when the model has none. Raises ValueError when it cannot be read."""
    config = _json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if isinstance(source, list):
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    if not isinstance(source, str) or not source:
        return None
    if len(source) > MAX_TEMPLATE_BYTES:
        raise ValueError("the chat template is larger than 1 MiB")
    try:
        return ChatTemplate(source, special_tokens_load(folder))
    except TemplateError as error:
        raise ValueError(f"the chat template does not compile: {error}") from error


def special_tokens_load(folder: Path) -> dict[str, str]:
    """The texts of the named special tokens, from tokenizer_config.json or special_tokens_map.json."""
    merged = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    tokens = {}
    for name in TOKEN_NAMES:
        value = merged.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def no_template() -> ApiError:
    return ApiError(
        400,
        "unsupported_operation",
        "This model has no chat template; use /v1/completions.",
        param="messages",
    )


class _GenerationBlock(Extension):
    """`{% generation %}` marks what an assistant said, for training; in serving it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compile(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


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


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    parse: Callable[[str], Any] = json.loads
    value = parse(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}
