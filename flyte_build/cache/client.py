"""The shared cache as a run sees it: what it can give, until the first trouble, and nothing after that."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

from flyte_build.cache import LIMIT, Item
from flyte_build.cache.wire import HEAD, Answer, Ask, frame, parse
from flyte_build.errors import CacheUnavailable
from flyte_build.model import CacheSettings

_START = 10.0
"""Seconds for the helper to start: it may have to import boto3 and ask for credentials."""
_GRACE = 1.0
"""Seconds beyond the limit, for a call that nothing else ends, such as one to a file system that hangs."""
_MAIN = "import sys; del sys.path[0]; from flyte_build.cache.helper import main; main()"


class _Failed(Exception):
    """A call failed, or nothing was said in time."""


class Client:
    """Calls to a shared cache, many at once. After the first trouble it is empty and takes nothing."""

    def __init__(self, settings: CacheSettings, environ: Mapping[str, str], *, limit: float = LIMIT) -> None:
        """Starts the helper, which gets ready while this process goes on.

        Args:
            limit: seconds that one call may take. Listing all that a cache holds takes many requests.
        """
        self.settings = settings
        self._limit = limit
        self.trouble: CacheUnavailable | None = None
        self.received = 0
        self.sent = 0
        """Bytes."""
        self._said = b""
        self._ready = False
        self._numbers = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            bufsize=0,
            start_new_session=True,  # so that Ctrl-C comes to us alone
        )
        atexit.register(self.close)
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

    def close(self) -> None:
        atexit.unregister(self.close)
        self._process.kill()
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
                self._send(frame(ask))
            while len(answers) < len(asks):
                answer = self._next(self._limit + _GRACE)
                answers[answer.number] = answer
        except _Failed as silent:
            self._fail(str(silent))
        return [] if self.trouble else [answers[number] for number in range(first, first + len(asks))]

    def _get_ready(self) -> None:
        if not self._ready:
            self._next(_START)
            self._ready = True

    def _next(self, limit: float) -> Answer:
        deadline = time.monotonic() + limit
        size = int.from_bytes(self._take(HEAD, deadline), "big")
        answer = parse(self._take(size, deadline), Answer)
        if answer.trouble:
            raise _Failed(answer.trouble)
        return answer

    def _take(self, count: int, deadline: float) -> bytes:
        parts, missing = [self._said[:count]], count - len(self._said)
        self._said = self._said[count:]
        assert self._process.stdout is not None
        while missing > 0:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _Failed(f"no answer within {self._limit:g} s")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise _Failed("the process that asks it ended")
            parts.append(data[:missing])
            self._said = data[missing:]
            missing -= len(data)
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # the next answer that does not come says so
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def _fail(self, reason: str) -> None:
        self.trouble = CacheUnavailable(url=self.settings.url, reason=reason)
        self.close()
