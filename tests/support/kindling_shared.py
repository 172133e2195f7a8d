"""Conversations that somebody shares."""

import json
from typing import Any

from kindling_platform.responses.conversations import conversation_read
from kindling_platform.responses.models import SharedConversation
from kindling_platform.responses.sharing import conversation_share

SAID = "What is a lighthouse for?"
ANSWER = "It warns <ships>."


def talk(*, request_id: str = "", **more: Any) -> dict[str, Any]:
    """A conversation as the page sends it."""
    answer = {"role": "assistant", "content": ANSWER, "model": "kindling/spark", "thought": "Hm, ships."}
    if request_id:
        answer["request_id"] = request_id
    return {
        "mode": "chat",
        "system": "Be brief.",
        "params": {"temperature": 0.5, "max_tokens": 64},
        "lanes": [{"model": "kindling/spark", "turns": [{"role": "user", "content": SAID}, answer]}],
    } | more


def shared(owner: Any, title: str = "Lighthouses") -> SharedConversation:
    """Shared by a customer of the platform's tests, or a member of the console's."""
    conversation = conversation_read(json.dumps(talk()).encode())
    return conversation_share(org=owner.org, conversation=conversation, title=title, actor=owner.actor)
