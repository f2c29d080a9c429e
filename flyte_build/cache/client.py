"""The shared cache as a run sees it: what it can give, until the first trouble, and nothing after that."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

import msgspec

from flyte_build.cache import LIMIT, Item
from flyte_build.cache.wire import HEAD, Answer, Ask, frame, parse
from flyte_build.errors import CacheGivenUp, CacheUnavailable
from flyte_build.model import CacheSettings

_START = 10.0
"""Seconds for the helper to start, which may import boto3. Nothing outside this machine is asked meanwhile."""
_GRACE = 1.0
"""Seconds beyond the limit, for a call that nothing else ends, such as one to a file system that hangs."""
_EACH = 0.02
"""Seconds that a run may wait for each answer. Many calls are under way at once, so one may take 16 times as long."""
_SLOWEST_LINE = 250_000
"""Bytes per second that count as transfer, not as waiting."""
_MAIN = "import sys; del sys.path[0]; from flyte_build.cache.helper import main; main()"


class _Failed(Exception):
    """A call failed, or nothing was said in time."""


def allowance(limit: float, answers: int, size: int) -> float:
    """Seconds that a run may wait in all for so many answers and so many bytes, sent and received."""
    return limit + _GRACE + answers * _EACH + size / _SLOWEST_LINE


class Client:
    """Calls to a shared cache, many at once. After the first trouble it is empty and takes nothing."""

    def __init__(self, settings: CacheSettings, environ: Mapping[str, str], *, limit: float = LIMIT) -> None:
        """Starts the helper, which gets ready while this process goes on.

        Args:
            limit: seconds that one call may take. Listing all that a cache holds takes many requests.
        """
        self.settings = settings
        self._limit = limit
        self.trouble: CacheUnavailable | CacheGivenUp | None = None
        self.received = 0
        self.sent = 0
        """Bytes."""
        self._said = b""
        self._ready = False
        self._numbers = 0
        self._answers = 0
        self._carried = 0
        """Bytes of calls and answers."""
        self._waited = 0.0
        """Seconds."""
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(environ),
                bufsize=0,
                start_new_session=True,  # so that Ctrl-C comes to us alone
            )
        except OSError as error:
            reason = f"the process that asks it cannot start: {(error.strerror or str(error)).lower()}"
            self.give_up(CacheUnavailable(url=settings.url, reason=reason))
        else:
            self._send(frame(settings))

    def items(self, prefix: str) -> tuple[Item, ...]:
        answers = self._ask([Ask(number=0, call="list", name=prefix)])
        return answers[0].items if answers else ()

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """Those of the named objects that are there."""
        wanted = list(dict.fromkeys(names))
        answers = self._ask([Ask(number=0, call="get", name=name) for name in wanted])
        found = {name: answer.data for name, answer in zip(wanted, answers, strict=False) if answer.data is not None}
        self.received += sum(map(len, found.values()))
        return found

    def create(self, objects: Mapping[str, bytes]) -> None:
        """Write those that are not there yet."""
        if self._ask([Ask(number=0, call="create", name=name, data=data) for name, data in objects.items()]):
            self.sent += sum(map(len, objects.values()))

    def delete(self, names: Iterable[str]) -> None:
        self._ask([Ask(number=0, call="delete", name=name) for name in names])

    def give_up(self, trouble: CacheUnavailable | CacheGivenUp) -> None:
        """Go on without the cache. The first trouble is the one that is told."""
        self.trouble = self.trouble or trouble
        self.close()

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._process is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with what it has started to ask for credentials
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, asks: list[Ask]) -> list[Answer]:
        """The answers in the order of the calls; none at all after trouble."""
        if self.trouble is not None or not asks:
            return []
        first = self._numbers + 1
        self._numbers += len(asks)
        numbered = (
            Ask(number=number, call=ask.call, name=ask.name, data=ask.data) for number, ask in enumerate(asks, first)
        )
        answers: dict[int, Answer] = {}
        try:
            self._get_ready()
            for ask in numbered:
                self._carried += len(ask.data)
                self._send(frame(ask))
            while len(answers) < len(asks):
                answer = self._next()
                answers[answer.number] = answer
        except _Failed as failed:
            self.give_up(CacheUnavailable(url=self.settings.url, reason=str(failed)))
        return [] if self.trouble else [answers[number] for number in range(first, first + len(asks))]

    def _get_ready(self) -> None:
        if not self._ready:
            try:
                self._read(time.monotonic() + _START)
            except TimeoutError:
                raise _Failed(f"the process that asks it did not start within {_START:g} s") from None
            self._next()
            self._ready = True

    def _next(self) -> Answer:
        """The next answer, if it comes in time: soon, and before the run has waited too long for all of them."""
        started = time.monotonic()
        left = allowance(self._limit, self._answers, self._carried) - self._waited
        try:
            answer = self._read(started + min(self._limit + _GRACE, left))
        except TimeoutError:
            waited = self._waited + time.monotonic() - started
            slow = f"it is too slow: {self._answers} answers in {waited:.0f} s"
            raise _Failed(slow if left < self._limit else f"no answer within {self._limit:g} s") from None
        self._waited += time.monotonic() - started
        self._answers += 1
        return answer

    def _read(self, deadline: float) -> Answer:
        size = int.from_bytes(self._take(HEAD, deadline), "big")
        self._carried += size
        try:
            answer = parse(self._take(size, deadline), Answer)
        except msgspec.DecodeError:
            raise _Failed("the process that asks it says what it should not") from None
        if answer.trouble:
            raise _Failed(answer.trouble)
        return answer

    def _take(self, count: int, deadline: float) -> bytes:
        parts, missing = [self._said[:count]], count - len(self._said)
        self._said = self._said[count:]
        assert self._process is not None
        assert self._process.stdout is not None
        while missing > 0:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise _Failed("the process that asks it ended")
            parts.append(data[:missing])
            self._said = data[missing:]
            missing -= len(data)
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # the next answer that does not come says so
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
