"""Three registries with one content: one that takes everything, one that needs a login, one that takes nothing."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request

import msgspec

from tests.engine.daemons import Daemon
from tests.engine.folder import Folder

NAMES = ("open", "login", "readonly")

_HTPASSWD = "tester:$2b$04$5eEo/z2r1biiQXbOOaqxHeO7Z1HNUU3ay3go8CkdMLp6ZR5mdHBxe\n"
"""bcrypt of `folder.PASSWORD`."""


def daemons(folder: Folder) -> list[Daemon]:
    return [Daemon(folder.root / f"registry-{name}") for name in NAMES]


def start(folder: Folder) -> dict[str, str]:
    """Start those that do not run; name -> `localhost:PORT`."""
    ports = _ports(folder)
    for name, daemon in zip(NAMES, daemons(folder), strict=True):
        if not daemon.process:
            _start(folder, name, ports[name])
    return {name: f"localhost:{port}" for name, port in ports.items()}


def _start(folder: Folder, name: str, port: int) -> None:
    daemon = Daemon(folder.root / f"registry-{name}")
    daemon.folder.mkdir(exist_ok=True)
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder.root / "registry-content")},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": name == "readonly"}, "uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": str(folder.root)},
    }
    if name == "login":
        accounts = daemon.folder / "htpasswd"
        accounts.write_text(_HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(accounts)}}
    config = daemon.folder / "config.json"  # JSON is YAML, too
    config.write_bytes(msgspec.json.encode(settings))
    command = (folder.programs.registry, "serve", str(config))
    daemon.start(*command, environ=os.environ, ready=lambda: _answers(port))


def _ports(folder: Folder) -> dict[str, int]:
    """Those of the last time, so that images keep their names, unless somebody else has taken one since."""
    file = folder.root / "ports.json"
    if file.exists():
        ports = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
        ours = [daemon.process for daemon in daemons(folder)]
        if all(own or _free(ports[name]) for name, own in zip(NAMES, ours, strict=True)):
            return ports
        for daemon in daemons(folder):
            daemon.stop()
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in NAMES]
    ports = {name: each.getsockname()[1] for name, each in zip(NAMES, sockets, strict=True)}
    for each in sockets:
        each.close()
    file.write_bytes(msgspec.json.encode(ports))
    return ports


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
