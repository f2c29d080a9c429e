"""The embedded control plane over HTTP: Flyte's services by Connect, and uploads by signed URLs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import uvicorn

from flyte_build.backend import uploads
from flyte_build.backend.database import Database
from flyte_build.backend.refused import Refused
from flyte_build.backend.services import applications
from flyte_build.errors import CannotListen, PortInUse

if TYPE_CHECKING:
    from connectrpc.interceptor import Interceptor

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_UPLOAD_ERRORS = {
    "permission_denied": (403, "AccessDenied"),
    "invalid_argument": (400, "BadDigest"),
    "already_exists": (409, "Conflict"),
}
"""Status and code, as S3 has them: what clients of signed URLs understand."""
_PORTS = range(65536)
_SHUTDOWN = 2
"""Seconds that open requests get to finish."""


def serve(folder: Path, *, port: int, host: str = "127.0.0.1", ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve the control plane in `folder` until Ctrl-C. `ready` is told the endpoint, once connections are accepted.

    Raises:
        PortInUse: another program listens there.
        CannotListen: the system refuses the address.
        EmbeddedBackendUnusable: the folder cannot be used.
    """
    database = Database(folder)
    with _listener(host, port) as listener, contextlib.closing(database):
        ready(_endpoint(listener))
        # uvicorn has shut down by itself when it hands the signal on.
        with contextlib.suppress(KeyboardInterrupt):
            _uvicorn(application(database)).run(sockets=[listener])


class Server:
    """An application served on a free port by a thread of this process, while the `with` block runs."""

    def __init__(self, app: Application) -> None:
        self._server = _uvicorn(app)
        self._listener = _listener("127.0.0.1", 0)
        self.endpoint = _endpoint(self._listener)
        """As Flyte's configuration has it, such as `dns:///localhost:8090`."""
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()  # connections wait in the listener's backlog until the server accepts them
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def application(database: Database, interceptors: Iterable[Interceptor] = ()) -> Application:
    """The whole server as one ASGI application. `interceptors` see every remote call first."""
    services: dict[str, Any] = dict(applications(database, interceptors))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(uploads.PREFIX):
            return await _upload(database, scope, receive, send)
        service = services.get(path.rpartition("/")[0])
        if service is None:  # which Connect clients read as "unimplemented"
            return await _answer(send, 404, f"`{path}` is not served here")
        await service(scope, receive, send)
        return None

    return app


async def _upload(database: Database, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] != "PUT":
        return await _answer(send, 405, "uploads are made with PUT")
    try:
        granted = uploads.opened(scope["path"], scope["query_string"], database.secret)
        await _store(granted, uploads.folder_of(database.folder) / granted.path, receive)
    except Refused as refused:
        status, code = _UPLOAD_ERRORS[refused.code]
        return await _answer(send, status, f"<Error><Code>{code}</Code><Message>{refused.message}</Message></Error>")
    return await _answer(send, 200, "")


async def _store(granted: uploads.Grant, file: Path, receive: Receive) -> None:
    """Put the request's body into place, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _scratch_file(file.parent) as scratch:
        hasher = hashlib.md5(usedforsecurity=False)
        with scratch.open("wb") as out:
            async for chunk in _body(receive):
                hasher.update(chunk)
                out.write(chunk)
        if hasher.hexdigest() != granted.md5:
            reason = f"expected MD5 `{granted.md5}`, got `{hasher.hexdigest()}`"
            raise Refused("invalid_argument", f"the content is not what the URL was signed for: {reason}")
        if not uploads.may_hold(file, granted.md5):
            raise Refused("already_exists", f"`{granted.path}` is there with another MD5")
        scratch.chmod(0o644)
        scratch.replace(file)


@contextlib.contextmanager
def _scratch_file(folder: Path) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".upload-", delete=False) as handle:
        scratch = Path(handle.name)
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


async def _body(receive: Receive) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused("invalid_argument", "the upload was cut off")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def _uvicorn(app: Application) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=_SHUTDOWN,
        )
    )


def _listener(host: str, port: int) -> socket.socket:
    if port not in _PORTS:
        raise CannotListen(host=host, port=port, reason=f"a port is a number from 0 to {_PORTS[-1]}")
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host=host, port=port) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(host=host, port=port, reason=reason) from error
    # Taken over by each connection: else the second half of an answer waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"dns:///{'localhost' if host == '127.0.0.1' else host}:{port}"
