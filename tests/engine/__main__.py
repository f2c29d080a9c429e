"""Start, stop or look for the engine: `python -m tests.engine start|stop|status`.

Prints the shell commands that make a shell use the engine, so that `eval "$(python -m tests.engine start)"` does.
Exit codes: 0 done (status: it runs), 1 it does not run, 2 wrong words, 3 no engine can be had here.
"""

from __future__ import annotations

import argparse
import fcntl
import shlex
import sys
from collections.abc import Sequence

import msgspec

from tests.engine import dockers, images, packages, registries
from tests.engine.fixtures import running
from tests.engine.folder import Folder, Record, Unavailable
from tests.engine.shell import say


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engine", description="A Docker engine for tests.")
    parser.add_argument("do", choices=("start", "stop", "status"))
    do = parser.parse_args(words).do
    folder = Folder()
    try:
        if do == "status":
            return _status(folder)
        packages.require_machine()
        folder.make()
        with folder.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _start(folder) if do == "start" else _stop(folder)
    except Unavailable as error:
        say(str(error))
        return 3


def _start(folder: Folder) -> int:
    packages.install(folder)
    registry = registries.start(folder)
    newer, older = dockers.newer(folder), dockers.older(folder)
    newer.start()
    if older:
        older.start()
    record = Record(
        environment={**newer.environment, "FLYTE_DOCKER_BUILDKIT_BUILDER_NAME": "default"},
        older_environment=older.environment if older else {},
        registry=registry["open"],
        login_registry=registry["login"],
        readonly_registry=registry["readonly"],
    )
    images.make(folder, newer, record)
    folder.record.write_bytes(msgspec.json.encode(record))
    _print(record)
    return 0


def _stop(folder: Folder) -> int:
    folder.record.unlink(missing_ok=True)
    for docker in dockers.every(folder):
        docker.stop()
    for registry in registries.daemons(folder):
        registry.stop()
    return 0


def _status(folder: Folder) -> int:
    record = running(folder)
    if record is None:
        say(f"no engine runs in {folder.root}")
        return 1
    _print(record)
    return 0


def _print(record: Record) -> None:
    for name, value in record.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    for name in ("registry", "login_registry", "readonly_registry"):
        print(f"export FLYTE_BUILD_{name.upper()}={getattr(record, name)}")


if __name__ == "__main__":
    sys.exit(main())
