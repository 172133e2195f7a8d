"""What a body asks for that not every model can do, and is left out where the model cannot."""

from collections.abc import Mapping

import orjson

from kindling_platform.gateway.ask import Spare
from kindling_platform.gateway.surface.form import error_of
from kindling_platform.gateway.surface.shaped import ShapedRequest


def spare_make(request: ShapedRequest, names: Mapping[str, tuple[str, ...]]) -> Spare:
    """Take a field of `names` out of a body that an engine refused for it; the answer names it as ignored."""

    def without(status: int, refusal: bytes, body: bytes) -> bytes | None:
        error = error_of(refusal) if status == 400 else {}
        field = str(error.get("param"))
        if error.get("code") != "unsupported_field" or field not in names:
            return None
        request.ignored += names[field]
        return orjson.dumps({name: value for name, value in orjson.loads(body).items() if name != field})

    return without
