"""The process that makes the calls to a shared cache. Ends when its input does."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from flyte_build.cache import Bucket, Trouble, import_libraries, open_bucket
from flyte_build.cache.wire import HEAD, Answer, Ask, frame, parse
from flyte_build.model import CacheSettings

CALLS_AT_ONCE = 16


def main() -> None:
    """Say that it has started, open the bucket, say so or why not, then answer calls in any order."""
    given, out, lock = sys.stdin.buffer, sys.stdout.buffer, threading.Lock()

    def say(answer: Answer) -> None:
        with lock:
            out.write(frame(answer))
            out.flush()

    settings = parse(_frame(given), CacheSettings)
    try:
        import_libraries(settings)
        say(Answer(number=0))
        bucket = open_bucket(settings)
    except Trouble as trouble:
        say(Answer(number=0, trouble=str(trouble)))
        return
    except Exception as error:  # noqa: BLE001 nobody sees a traceback of this process
        say(Answer(number=0, trouble=f"{type(error).__name__}: {error}"))
        return
    say(Answer(number=0))
    pool = ThreadPoolExecutor(CALLS_AT_ONCE)
    while data := _frame(given):
        pool.submit(_answer, bucket, parse(data, Ask), say)
    os._exit(0)  # nobody waits for an answer any more, and a call that hangs would never end


def _frame(given: BinaryIO) -> bytes:
    return given.read(int.from_bytes(given.read(HEAD), "big"))


def _answer(bucket: Bucket, ask: Ask, say: Callable[[Answer], None]) -> None:
    try:
        if ask.call == "list":
            say(Answer(number=ask.number, items=tuple(bucket.items(ask.name))))
        elif ask.call == "get":
            say(Answer(number=ask.number, data=bucket.get(ask.name)))
        elif ask.call == "create":
            bucket.create(ask.name, ask.data)
            say(Answer(number=ask.number))
        else:
            bucket.delete(ask.name)
            say(Answer(number=ask.number))
    except Trouble as trouble:
        say(Answer(number=ask.number, trouble=str(trouble)))
    except Exception as error:  # noqa: BLE001 said, too: whoever asked would wait for it
        say(Answer(number=ask.number, trouble=type(error).__name__))
