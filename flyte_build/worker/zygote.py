"""The parent of all loads: imports the SDK once, then forks a child per request, which costs milliseconds.

It reads lines `NUMBER REQUEST` on standard input, with a `LoadRequest` as JSON, and answers with two lines for each on
standard output: `started NUMBER PID` and `ended NUMBER STATUS` (as `os.waitpid` gives it). It ends when its input does,
and its children with it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import selectors
import signal
import sys
import traceback
from typing import BinaryIO, NoReturn

import msgspec

from flyte_build import sdk
from flyte_build.worker import codes, inherited
from flyte_build.worker.load import load
from flyte_build.worker.protocol import BUG, UNWRITTEN, LoadRequest

_exit = os._exit
_children: dict[int, str] = {}
"""Process -> number of its load."""
_compiled_reader, _compiled_writer = os.pipe()
"""Through which loads tell what they compiled."""


def main() -> NoReturn:
    sdk.prepare_process()
    inherited.prepare_process()
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer)
    with selectors.DefaultSelector() as selector, contextlib.suppress(BrokenPipeError):
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_reader, selectors.EVENT_READ)
        selector.register(_compiled_reader, selectors.EVENT_READ)
        _serve(selector, wake_reader)
    _kill_children()
    _exit(0)


def _serve(selector: selectors.BaseSelector, wake_reader: int) -> None:
    unfinished: dict[int, bytes] = {}
    """Descriptor -> the beginning of a line."""
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 1 << 16)
            if key.fd == wake_reader:
                _reap()
                continue
            if not data:
                return
            *lines, unfinished[key.fd] = (unfinished.get(key.fd, b"") + data).split(b"\n")
            for line in lines:
                if key.fd == _compiled_reader:
                    codes.hear(line)
                else:
                    number, request = line.split(b" ", 1)
                    _fork(number.decode(), msgspec.json.decode(request, type=LoadRequest))


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(f"ended {_children.pop(ended[0])} {ended[1]}")


def _kill_children() -> None:
    """Whoever asked for the loads has gone, and may have had no time to end them."""
    for child in _children:
        for kill in (os.killpg, os.kill):  # one that was forked this moment leads no group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _fork(number: str, request: LoadRequest) -> None:
    pid = os.fork()
    if pid:
        _children[pid] = number
        _say(f"started {number} {pid}")
        return
    # The child must never return into the parent's loop, whatever happens.
    status = 1
    try:
        _child(request)
        status = 0
    except BaseException:  # noqa: BLE001 a bug of ours: the parent shows what was printed
        status = BUG
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        _exit(status)


def _child(request: LoadRequest) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _redirect(request.output)
        progress = os.open(request.progress, os.O_RDWR | os.O_CREAT, 0o600)
        stacks_end = os.open(request.stacks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:
        _exit(UNWRITTEN)
    with open(stacks_end, "wb", buffering=0) as stacks:
        faulthandler.enable(stacks)
        faulthandler.dump_traceback_later(request.target.load_timeout, exit=True, file=stacks)
        _note_exits(stacks)
        sdk.revive_after_fork()
        result = load(request, progress)
        faulthandler.cancel_dump_traceback_later()
    codes.tell(_compiled_writer)
    _write(request.result, msgspec.json.encode(result))


def _write(path: str, data: bytes) -> None:
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError:
        _exit(UNWRITTEN)


def _note_exits(stacks: BinaryIO) -> None:
    """Have `os._exit`, which says nothing itself, leave the stack of who called it."""
    own = os.getpid()

    def noted(status: int) -> None:
        if os.getpid() == own and not stacks.closed:
            faulthandler.dump_traceback(stacks, all_threads=False)
        _exit(status)

    os._exit = noted  # type: ignore[assignment]


def _redirect(output: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
