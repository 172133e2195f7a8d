"""Messages to the core, of which no prompt is sent twice in a row.

The choices of one prompt are submitted one behind another and differ in little else than their names. Each but the
first is sent as what it has of its own. Both ends remember the last whole one: nothing hangs on what became of it.
"""

from dataclasses import replace

import msgspec

from kindling_engine.protocol.ipc import FrameError, Submit, SubmitAgain, ToCore, decode_to_core, encode


class ToCoreWriter:
    """Makes the frames of one connection; they are to be sent in the order in which they were made."""

    def __init__(self) -> None:
        self._last: Submit | None = None

    def encode(self, message: ToCore) -> bytes:
        if not isinstance(message, Submit):
            return encode(message)
        again = SubmitAgain(message.id, message.grant, message.sampling.seed)
        if self._last is not None and _as(self._last, again) == message:
            return encode(again)
        self._last = message
        return encode(message)


class ToCoreReader:
    """Reads the frames of one connection, in the order in which they were made. Raises FrameError."""

    def __init__(self) -> None:
        self._last: Submit | None = None

    def decode(self, body: bytes) -> ToCore:
        message = decode_to_core(body)
        if isinstance(message, SubmitAgain):
            if self._last is None:
                raise FrameError("a request is to be like the one before it, and there was none")
            return _as(self._last, message)
        if isinstance(message, Submit):
            self._last = message
        return message


def _as(last: Submit, again: SubmitAgain) -> Submit:
    sampling = replace(last.sampling, seed=again.seed)
    return msgspec.structs.replace(last, id=again.id, grant=again.grant, sampling=sampling)
