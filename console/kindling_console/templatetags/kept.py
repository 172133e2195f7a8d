"""What pages on requests need to know of the log of prompts and answers."""

from typing import Any

from django import template

from kindling_platform.requestlog.selectors import logged_request_find

register = template.Library()


@register.simple_tag(takes_context=True)
def may(context: template.Context, action: str) -> bool:
    """Whether the visitor's role allows an action."""
    return bool(_visitor(context).may(action))


@register.simple_tag(takes_context=True)
def kept_request(context: template.Context, request_id: Any) -> bool:
    """Whether prompt and answer of a request are kept, and the visitor may open them."""
    visitor = _visitor(context)
    if not visitor.may("prompts.open"):
        return False
    return logged_request_find(org=visitor.org, request_id=request_id) is not None


def _visitor(context: template.Context) -> Any:
    visitor = context["visitor"]
    return visitor() if callable(visitor) else visitor
