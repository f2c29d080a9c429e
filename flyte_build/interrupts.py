"""Ctrl-C, also when it comes in the very moment in which the main thread begins to wait.

Python notes a signal at once and handles it when the main thread runs next. If that has just looked and now waits for a
lock, the signal does not end the wait: the handler would be called when something else does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

_PAUSE = 0.1
"""Seconds in which a main thread that runs has handled the signal."""


def handle(handler: Callable[[int, Any], None]) -> None:
    """Have Ctrl-C call `handler` in the main thread, which calls this, and see to it that it does."""
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGURG, lambda *_: None)  # ends a wait, and does nothing else
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    main = threading.get_ident()
    threading.Thread(target=_wake, args=(reader, main), name="flyte-build-interrupts", daemon=True).start()


def _wake(reader: int, main: int) -> None:
    while noted := os.read(reader, 64):
        if signal.SIGINT in noted:
            time.sleep(_PAUSE)
            signal.pthread_kill(main, signal.SIGURG)
