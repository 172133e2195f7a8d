"""News of a long start: at most two a second, and not one from a quick start."""

import pytest

from kindling_engine.core import loading
from kindling_engine.core.loading import LoadingNews
from kindling_engine.protocol.ipc import CoreLoading, decode_to_front, encode


def test_news_are_thinned_out(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(loading.time, "monotonic", lambda: now[0])
    sent: list[CoreLoading] = []
    news = LoadingNews(sent.append)
    for step in range(1, 101):
        now[0] = 100.0 + step * 0.02
        news(step, 100)
    assert [message.done_bytes for message in sent] == [25, 50, 75, 100]
    assert decode_to_front(encode(sent[0])[4:]) == CoreLoading(25, 100)
