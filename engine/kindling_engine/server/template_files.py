"""Finds a model's chat templates and special tokens in its folder, where transformers looks for them."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from kindling_engine.protocol.chat_templates import chat_template_sources, json_object
from kindling_engine.server.chat_template import ChatTemplate, template_check
from kindling_engine.server.errors import ApiError

MAX_TEMPLATE_BYTES = 1024 * 1024
TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class ChatTemplates:
    """A model's templates: the usual one, and the one for requests with tools where it has a separate one."""

    default: ChatTemplate
    tool_use: ChatTemplate | None = None

    def pick(self, *, tools: bool) -> ChatTemplate:
        """The template that renders a request with or without tools."""
        return (self.tool_use or self.default) if tools else self.default


def chat_templates_load(folder: Path) -> ChatTemplates | None:
    """The templates of a model folder, None when it has none. Raises ValueError when they cannot be read."""
    sources = chat_template_sources(folder)
    for name, source in sources.items():
        _check(name, source)
    default = sources.get("default")
    if default is None:
        return None
    tokens = special_tokens_load(folder)
    tool_use = sources.get("tool_use")
    return ChatTemplates(
        default=ChatTemplate(default, tokens),
        tool_use=ChatTemplate(tool_use, tokens) if tool_use else None,
    )


def special_tokens_load(folder: Path) -> dict[str, str]:
    """The texts of the named special tokens, from tokenizer_config.json or special_tokens_map.json."""
    merged = {
        **json_object(folder / "special_tokens_map.json"),
        **json_object(folder / "tokenizer_config.json"),
    }
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


def _check(name: str, source: str) -> None:
    label = "the chat template" if name == "default" else f"the chat template {name}"
    if len(source) > MAX_TEMPLATE_BYTES:
        raise ValueError(f"{label} is larger than 1 MiB")
    try:
        template_check(source)
    except (TemplateError, RecursionError) as error:
        raise ValueError(f"{label} does not compile: {str(error)[:300]}") from error
