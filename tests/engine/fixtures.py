"""What tests of images are given: the engine that runs on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.engine import dockers, registries
from tests.engine.folder import PASSWORD, USER, Folder, Record


class Engine:
    """A running engine with its registries."""

    def __init__(self, record: Record, folder: Folder) -> None:
        self.record = record
        self.folder = folder

    @property
    def environ(self) -> dict[str, str]:
        """This process's variables, made to point at the engine."""
        return {**os.environ, **self.record.environment}

    def docker(
        self, *words: str, environ: Mapping[str, str] | None = None, feed: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run a docker client, whatever comes of it. `environ` is laid over the engine's; `feed` is standard input."""
        merged = {**self.environ, **(environ or {})}
        # Which of the clients runs is for the merged PATH to say, as in a shell.
        command = ["/usr/bin/env", "docker", *words]
        ran = subprocess.run(command, env=merged, input=feed, capture_output=True, check=False)
        return subprocess.CompletedProcess(command, ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def client_settings(self, folder: Path, *, login: bool = False, buildx: bool = True) -> dict[str, str]:
        """Write a user's Docker settings into a folder; the variable that chooses them."""
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {}
        if login:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            settings["auths"] = {self.record.login_registry: {"auth": token}}
        if buildx:
            settings["cliPluginsExtraDirs"] = [str(self.folder.programs.buildx.parent)]
        (folder / "config.json").write_text(json.dumps(settings))
        return {"DOCKER_CONFIG": str(folder)}


def running(folder: Folder) -> Record | None:
    """The record of an engine of which everything runs."""
    daemons = [*(docker.daemon for docker in dockers.every(folder)), *registries.daemons(folder)]
    return folder.read_record() if all(daemon.process for daemon in daemons) else None


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine of this machine. Without one the test is skipped; in CI it fails, since there one has to be."""
    folder = Folder()
    record = running(folder)
    if record is None:
        reason = "no Docker engine; start one with `python -m tests.engine start`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return Engine(record, folder)


@pytest.fixture
def image_name(engine: Engine) -> Iterator[str]:
    """A name in the open registry that nobody else uses; what the engine holds under it is removed in the end."""
    name = f"{engine.record.registry}/test/{uuid.uuid4().hex}:1"
    yield name
    engine.docker("image", "rm", "--force", name)
