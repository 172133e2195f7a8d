"""Inputs of forms. Of a form that was refused the first thing to mend has the focus: a page may be long."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def field_input(field: Any, hint: str = "") -> SafeString:
    """A field's input, described by its help or a page's own hint, and by what speaks against its value."""
    attrs: dict[str, Any] = {}
    if hint:
        attrs["aria-describedby"] = described_by(field, has_help=True)
    if is_first_refused(field):
        attrs["autofocus"] = True
    return SafeString(field.as_widget(attrs=attrs))


@register.simple_tag
def refused(field: Any, help_id: str = "") -> SafeString:
    """The same for an input that a template writes itself: its attributes, after the others."""
    ids = [help_id] if help_id else []
    ids += [f"{field.auto_id}_error"] if field.errors else []
    described = format_html(' aria-describedby="{}"', " ".join(ids)) if ids else ""
    invalid = ' aria-invalid="true"' if field.errors else ""
    return SafeString(f"{described}{invalid}{' autofocus' if is_first_refused(field) else ''}")


def described_by(field: Any, *, has_help: bool) -> str:
    """The ids of a field's help and of its errors, as far as there are any."""
    ids = [f"{field.auto_id}_helptext"] if has_help else []
    return " ".join(ids + ([f"{field.auto_id}_error"] if field.errors else []))


def is_first_refused(field: Any) -> bool:
    """Whether a field is the first of its form whose value was refused."""
    errors = field.form.errors
    return bool(next((name for name in field.form.fields if name in errors), "") == field.name)
