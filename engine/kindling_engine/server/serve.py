"""The life of an engine process: start the core, load the tokenizer, serve, drain, end."""

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from kindling_engine.protocol.ipc import CoreLoading
from kindling_engine.protocol.usage_log import UsageLogError
from kindling_engine.server.app import create_app
from kindling_engine.server.core_link import CoreStartError
from kindling_engine.server.core_process import CoreProcess, core_start
from kindling_engine.server.embedding_text import embedding_text_load
from kindling_engine.server.front import LAST_WORDS_WITHIN_S, Front
from kindling_engine.server.model_text import ModelText, ModelTextError, model_text_load
from kindling_engine.server.options import ServeOptions
from kindling_engine.server.request_common import ModelFacts
from kindling_engine.server.usage import UsageBook

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_START_FAILED = 1
EXIT_CORE_DIED = 70
# Whoever stops us waits ten seconds; what is then still running needs time for its last words.
DRAIN_WITHIN_S = 7.5


def serve(options: ServeOptions) -> int:
    """Run an engine until it is told to stop; returns the exit status."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return asyncio.run(_serve(options))


async def _serve(options: ServeOptions) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    core: CoreProcess | None = None
    book: UsageBook | None = None
    try:
        # The core takes seconds to import torch; everything of ours fits into that time.
        core = await core_start(options)
        core.link.on_loading = _say_loading
        text = await asyncio.to_thread(model_text_load, options.model)
        book = UsageBook(options.usage_log, options.replica)
        if not await _until(core.wait_ready(), stopping):
            return EXIT_OK
        # What is loaded stays; the collector would stop every stream while it looks through all of it.
        gc.collect()
        gc.freeze()
        return await _serve_ready(_front(options, core, text, book), options, stopping)
    except CoreStartError as error:
        return _fail(error.code, error.message)
    except ModelTextError as error:
        return _fail("tokenizer_unusable", str(error))
    except (UsageLogError, OSError) as error:
        return _fail("start_failed", str(error))
    finally:
        if core:
            await core.end()
        if book:
            book.close()


def _front(options: ServeOptions, core: CoreProcess, text: ModelText, book: UsageBook) -> Front:
    ready = core.link.ready.result()
    facts = ModelFacts(
        ref=options.model_ref,
        context_length=ready.context_length,
        vocab_size=ready.vocab_size,
        eos_ids=frozenset(ready.eos_ids),
        speculates=ready.speculates,
    )
    embedding = None
    if ready.task == "embed":
        embedding = embedding_text_load(options.model, text, hidden_size=ready.hidden_size)
    return Front(core=core.link, text=text, facts=facts, book=book, blobs=options.blobs, embedding=embedding)


async def _serve_ready(front: Front, options: ServeOptions, stopping: asyncio.Event) -> int:
    # Cancelling handlers is how a client that leaves stops its generation.
    runner = web.AppRunner(
        create_app(front), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, backlog=1024)
        await site.start()
        _say({"event": "ready", "port": runner.addresses[0][1], "pid": os.getpid()})
        told = asyncio.ensure_future(stopping.wait())
        either: list[asyncio.Future[Any]] = [told, front.core.closed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if front.core.closed.done():
            logger.error("the core has died; ending so that both are started again")
            await front.settle(LAST_WORDS_WITHIN_S)
            return EXIT_CORE_DIED
        await front.drain(DRAIN_WITHIN_S)
        return EXIT_CORE_DIED if front.core.closed.done() else EXIT_OK
    finally:
        await runner.cleanup()


async def _until(work: Coroutine[Any, Any, None], stopping: asyncio.Event) -> bool:
    """Do the work unless told to stop first; True when it is done. Raises what the work raises."""
    task, told = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    either: list[asyncio.Future[Any]] = [task, told]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        told.cancel()
        task.result()
        return True
    task.cancel()
    return False


def _say_loading(news: CoreLoading) -> None:
    unit, name = (1e9, "GB") if news.all_bytes >= 1e9 else (1e6, "MB")
    done, whole = news.done_bytes / unit, news.all_bytes / unit
    _say({"event": "loading", "message": f"Reading weights: {done:.1f} of {whole:.1f} {name}."})


def _fail(code: str, message: str) -> int:
    _say({"event": "failed", "code": code, "message": message})
    logger.error("cannot start: %s: %s", code, message)
    return EXIT_START_FAILED


def _say(event: dict[str, object]) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 - the agent reads these lines
