"""Sentences of the index of errors, as HTML."""

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def code_marked(text: str) -> SafeString:
    """A sentence whose parts between backticks are code."""
    parts = [escape(part) for part in text.split("`")]
    marked = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    return mark_safe(marked)  # noqa: S308  # each part was escaped
