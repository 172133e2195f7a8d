"""``python -m kindling_engine serve …`` runs an engine; ``bench …``, ``verify …`` and ``convert …`` are commands."""

import logging
import os
import sys

# The parent may die while modules are still being imported.
_PARENT_PID = os.getppid()
USAGE = (
    "usage: python -m kindling_engine {serve,bench,verify,convert} [options]; --help after either says more"
)


def main() -> int:
    verb, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if verb == "serve":
        from kindling_engine.core.deathsig import die_with_parent
        from kindling_engine.server.options import serve_options_parse
        from kindling_engine.server.serve import serve

        logging.basicConfig(level=logging.INFO, format="%(asctime)s front %(levelname)s %(message)s")
        options = serve_options_parse(arguments)
        die_with_parent(_PARENT_PID)
        return serve(options)
    if verb == "bench":
        from kindling_engine.bench.command import bench

        return bench(arguments)
    if verb == "verify":
        from kindling_engine.verify.command import verify

        return verify(arguments)
    if verb == "convert":
        from kindling_engine.convert.command import convert_command

        return convert_command(arguments)
    sys.stderr.write(USAGE + "\n")
    return 0 if verb in ("-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main())
