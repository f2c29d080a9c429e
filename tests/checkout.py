"""A repository deployed in this process, step by step: which steps ran, why, and what a deployment left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

from flyte_build import pipeline
from flyte_build.backend.embedded import EmbeddedBackend
from flyte_build.manifest import read_manifest
from flyte_build.model import Stale, Value
from flyte_build.project import Project
from flyte_build.steps import bundle, deploy, serialize


class Left(Value, frozen=True):
    """What a deployment leaves that others see."""

    version: str
    bundle: bytes
    """Of the archive."""
    specs: dict[str, bytes]
    """Task -> `TaskSpec`, as it is sent."""


class Checkout:
    """Files in a folder, and an environment: this process's own without what Flyte reads, and `environ`."""

    def __init__(self, folder: Path, files: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        for name, text in (files or {}).items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text, f"{old!r} is not in {name}"
        (self.folder / name).write_text(text.replace(old, new))

    def state(self, name: str) -> Path:
        """A path in the state folder."""
        return self.folder / ".flyte-build" / name

    def project(self) -> Project:
        """The project as a new run sees it."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTE", "AWS", "UCTL"))}
        environ = {**inherited, **self.environ}
        manifest = read_manifest(self.folder / "deploy.toml", self.variables, environ)
        return Project(manifest, environ, self.variables)

    def deploy(self, *steps: str) -> dict[str, str]:
        """Bring every target up to date, as a run does. Gives the steps that ran: `STEP` or `STEP:TARGET` -> reason.

        Raises:
            StepError: a step failed; those before it are done.
        """
        project = self.project()
        try:
            return dict(_run_stale(project, steps or tuple(pipeline.STEPS)))
        finally:
            project.index.save()
            project.close()

    def left(self, target: str) -> Left:
        """What the last deployment of a target left."""
        project = self.project()
        found = project.manifest.targets[target]
        packed = bundle.load(project, found)
        waves = serialize.load(project, found).waves
        return Left(
            version=project.result(target, serialize.NAME, serialize.Result).version,
            bundle=bundle.archive(project, packed).read_bytes() if packed else b"",
            specs={registration.name: registration.spec for wave in waves for registration in wave},
        )

    def registered(self, target: str) -> dict[str, bytes]:
        """What the embedded control plane has of a target's last deployment: task -> `TaskSpec`."""
        project = self.project()
        requests = [
            deploy.request(r) for w in serialize.load(project, project.manifest.targets[target]).waves for r in w
        ]
        backend = EmbeddedBackend(self.state("backend"))
        try:
            found = backend.find_tasks([request.task_id for request in requests])
        finally:
            backend.close()
        return {
            each.task_id.name: each.spec.SerializeToString(deterministic=True) for each in found if each is not None
        }


def _run_stale(project: Project, steps: Iterable[str]) -> Iterator[tuple[str, str]]:
    several = len(project.manifest.targets) > 1
    for target in project.manifest.targets.values():
        for step in steps:
            if isinstance(pipeline.judge(project, target, step), Stale):
                done = pipeline.run(project, target, step)
                yield (f"{step}:{target.name}" if several else step), done.reason
