"""The header of a message: who speaks, to whom, on which channel. ``to=`` stands in front of the channel or behind."""

import re
from dataclasses import dataclass

from kindling_engine.server.harmony.marks import CHANNEL, CONSTRAIN, MARKS

CHANNELS = ("analysis", "commentary", "final")
_NAME = r"[A-Za-z0-9_.\-]"
_TYPE = r"[A-Za-z0-9_.+/\-]"
_FORM = "(?:json|code)"
_TO = rf"to={_NAME}{{0,256}}"


def _words(form: str, to: str, behind: str) -> str:
    """What may stand behind a channel: the type of what follows, a recipient in front of it or behind."""
    typed = rf"\s{{0,8}}{CONSTRAIN}\s?{_TYPE}{{0,64}}(?:\s{{1,8}}{to})?"
    return rf"(?:\s{{1,8}}{form})?(?:\s{{1,8}}{to}(?:\s{{1,8}}{behind})?)?(?:{typed})?"


# Every beginning of what may stand in front of the first channel mark, and behind each. What has begun as neither stays
# neither, whatever follows.
_BEFORE = re.compile(rf"(?:{_TO}|{_NAME}{{0,256}}(?:\s{{1,8}}(?:t|to|{_TO})?)?)\s{{0,8}}")
_BEHIND = re.compile(
    rf"\s?[A-Za-z]{{0,32}}{_words(_FORM, _TO, _TYPE + '{1,64}')}(?:\s{{1,8}}(?:j|js|jso|c|co|cod|t|to)|\s{{0,8}})"
)
# What of it is no text even where the mark behind it is missing.
_SURE = re.compile(_words(rf"{_FORM}(?!\w)", rf"to={_NAME}{{1,256}}", rf"{_FORM}(?!\w)"))
_OPENING = re.compile(rf"\s{{0,8}}(?:t|to|{_TO}\s{{0,8}})?")
_ROLE = re.compile(rf"({_NAME}+)(?![{_NAME[1:-1]}=])")
_CHANNEL = re.compile(r"\s?([A-Za-z]+)")
_RECIPIENT = re.compile(rf"(?<!{_NAME})to=({_NAME}+)")
_WITHOUT_MARKS = str.maketrans("", "", MARKS)


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says; empty where it says nothing. ``recipient_at`` is where its ``to=`` begins."""

    role: str = ""
    channel: str = ""
    recipient: str = ""
    recipient_at: int = 0

    @property
    def tool(self) -> str:
        return self.recipient.removeprefix("functions.")


def header_may_be(text: str) -> bool:
    """Whether a header may begin like this."""
    before, *behind = text.split(CHANNEL)
    return bool(_BEFORE.fullmatch(before)) and all(map(_BEHIND.fullmatch, behind))


def header_may_open(text: str) -> bool:
    """Whether a text in front of all marks may be a header that begins with its recipient."""
    return bool(_OPENING.fullmatch(text))


def header_read(text: str) -> Header:
    """What the text of a header says; of two channels the last counts."""
    role, to = _ROLE.match(text), _RECIPIENT.search(text)
    channels = [name[1] for one in text.split(CHANNEL)[1:] if (name := _CHANNEL.match(one))]
    return Header(
        role=role[1] if role else "",
        channel=channels[-1] if channels else "",
        recipient=to[1] if to else "",
        recipient_at=to.start() if to else 0,
    )


def header_says_nothing(text: str) -> bool:
    """Whether a header that no text followed holds no word of the model's own."""
    header = header_read(text)
    if header.role not in ("", "assistant"):
        return False
    if header.recipient or header.channel in CHANNELS:
        return True
    return text.translate(_WITHOUT_MARKS).strip() in ("", "assistant")


def header_size(text: str) -> int:
    """How much of a text the header takes that it begins with, where the mark behind it is missing; 0 for none."""
    name = _CHANNEL.match(text, text.rfind(CHANNEL) + 1) if CHANNEL in text else None
    if name is None or name[1] not in CHANNELS:
        return 0
    sure = _SURE.match(text, name.end())
    return sure.end() if sure else name.end()
