"""``python -m kindling_engine.core``: connect to the front, load, serve until the socket closes."""

import gc
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kindling_engine.core.link import FrontLink
    from kindling_engine.core.options import CoreOptions

# The parent may die while torch is still being imported.
_PARENT_PID = os.getppid()


def main() -> int:
    from kindling_engine.core.deathsig import die_with_parent
    from kindling_engine.core.link import FrontLink
    from kindling_engine.core.options import options_parse

    die_with_parent(_PARENT_PID)
    # Of what libraries make hardly anything is ever garbage, and looking through it takes a fifth of the time.
    gc.disable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s core %(levelname)s %(message)s")
    options = options_parse(sys.argv[1:])
    if options.threads:
        # OpenMP reads this when torch is imported; without it, it starts a thread per core.
        os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    link = FrontLink(options.socket)
    try:
        return _serve(link, options)
    finally:
        link.close()


def _serve(link: "FrontLink", options: "CoreOptions") -> int:
    from kindling_engine.core.engine import EngineCore
    from kindling_engine.core.loading import LoadingNews
    from kindling_engine.core.memory import OUT_OF_MEMORY
    from kindling_engine.core.startup import parts_build
    from kindling_engine.models.errors import ModelError
    from kindling_engine.models.memory import out_of_memory
    from kindling_engine.protocol.ipc import CoreFailed

    gc.freeze()
    gc.enable()
    try:
        core = EngineCore(
            parts_build(options, link.wake, progress=LoadingNews(link.send)),
            blobs=options.blobs,
            send=link.send,
        )
        ready = core.ready()
    except ModelError as error:
        link.send(CoreFailed(error.code, error.message))
        return 1
    except Exception as error:
        logging.getLogger(__name__).exception("the core cannot start")
        if out_of_memory(error):
            link.send(CoreFailed("out_of_memory", OUT_OF_MEMORY))
            return 1
        link.send(CoreFailed("core_start_failed", f"The engine core cannot start: {type(error).__name__}."))
        return 1
    # What is there now is never looked through again: a tenth of a second, in which nobody would get a token.
    gc.collect()
    gc.freeze()
    link.send(ready)
    core.run(link)
    return 0


if __name__ == "__main__":
    sys.exit(main())
