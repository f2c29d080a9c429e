"""Ctrl-C: it ends whatever the main thread waits for."""

from __future__ import annotations

import subprocess
import sys

import pytest

NOTED_ELSEWHERE = """\
import queue, signal, sys, threading, time
from flyte_build import interrupts

def stop(*_):
    raise KeyboardInterrupt

if {handled}:
    interrupts.handle(stop)
else:
    signal.signal(signal.SIGINT, stop)
waiting = queue.Queue()
other = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
other.start()
threading.Timer(0.5, signal.pthread_kill, (other.ident, signal.SIGINT)).start()
started = time.monotonic()
try:
    waiting.get(timeout=5)
except KeyboardInterrupt:
    print("at once" if time.monotonic() - started < 4 else "late")
"""
"""A signal that is noted and does not end the wait: what else happens in an instant only is so each time."""


@pytest.mark.parametrize(("handled", "said"), [(True, "at once"), (False, "late")])
def test_a_signal_that_the_wait_did_not_notice_ends_it_all_the_same(handled: bool, said: str) -> None:
    script = NOTED_ELSEWHERE.format(handled=handled)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == said


def test_a_signal_is_handled_once() -> None:
    script = (
        "import os, signal, time\n"
        "from flyte_build import interrupts\n"
        "interrupts.handle(lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(0.5)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["handled"]
