"""A random monorepo on the disk, deployed in this process, edited, and compared with a deploy from nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from flyte_build import pipeline
from flyte_build.errors import StepError
from flyte_build.model import Stale
from flyte_build.project import Project
from tests.checkout import Checkout, Left
from tests.monorepos import DISTRIBUTION, SERVICES, SETTINGS, Edit, Story, Tree, manifest, reach, read_tree

Ran = dict[str, dict[str, str]]
"""Target -> step that ran -> why."""
Outcome = dict[str, Left | str]
"""Target -> what it left, or its error."""


class World:
    """One monorepo, and the installed distribution that its code may ask for."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site-packages"
        self.checkout = Checkout(folder / "repo")
        self.checkout.environ["PYTHONPATH"] = str(self.site)
        self.folder = self.checkout.folder

    def begin(self, story: Story) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.checkout.environ.pop("STAGE", None)
        self._settings: dict[str, tuple[str, ...]] = dict.fromkeys(SERVICES, ())
        self._removed: dict[str, str] = {}
        self._remark = 0
        self._install(0)
        for name, text in story.tree.items():
            self._put(name, text)
        self._write_manifest()

    # --- deploying

    def deploy(self, meanwhile: Callable[[], object] | None = None) -> tuple[Ran, dict[str, str]]:
        """Bring every target up to date. Gives what ran, and the errors. `meanwhile` is called after the first step."""
        project = self.checkout.project()
        ran: Ran = {name: {} for name in project.manifest.targets}
        failed: dict[str, str] = {}
        for name in project.manifest.targets:
            try:
                for step in pipeline.STEPS:
                    _bring_up_to_date(project, name, step, ran[name])
                    if meanwhile is not None:
                        meanwhile()
                        meanwhile = None
            except StepError as error:
                failed[name] = error.message
        project.index.save()
        project.close()
        return ran, failed

    def outcome(self, failed: dict[str, str]) -> Outcome:
        """What the last deploy left, which the control plane has."""
        found: Outcome = dict(failed)
        for name in self.checkout.project().manifest.targets:
            if name not in failed:
                left = found[name] = self.checkout.left(name)
                assert self.checkout.registered(name) == left.specs
        return found

    def clean(self) -> Outcome:
        """What a deploy of the same tree from nothing leaves. The state is put aside meanwhile."""
        state, aside = self.folder / ".flyte-build", self.folder.parent / "aside"
        state.rename(aside)
        try:
            return self.outcome(self.deploy()[1])
        finally:
            shutil.rmtree(state, ignore_errors=True)
            aside.rename(state)

    # --- editing

    def make(self, edit: Edit) -> dict[str, set[str]]:
        """Make an edit. Gives the steps that may run of each target that it does not concern."""
        before, settings_before = read_tree(str(self.folder)), dict(self._settings)
        names = self._sources()
        touched = getattr(self, f"_{edit.kind.replace(' ', '_')}")(names[edit.first % len(names)], edit.second)
        after = read_tree(str(self.folder))
        changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
        changed |= set(touched or ())
        return {
            name: {"discover"} if edit.kind == "distribution" or self._lists_everything(name, before, after) else set()
            for name in set(settings_before) & set(self._settings)
            if settings_before[name] == self._settings[name]
            and not self._concerns(name, edit.kind, changed, before)
            and not self._concerns(name, edit.kind, changed, after)
        }

    def _lists_everything(self, service: str, *trees: Tree) -> bool:
        """Whether code looks for a distribution, which lists each folder on the import path."""
        return any("distribution" in reach(tree, service).reads for tree in trees)

    def _concerns(self, service: str, kind: str, changed: set[str], tree: Tree) -> bool:
        lines = self._settings[service]
        if changed and 'copy_style = "all"' in lines:
            return True
        if 'include = ["data/*.txt"]' in lines and any(name.startswith("data/") for name in changed):
            return True
        reached = reach(tree, service)
        return kind in reached.reads or any(reached.concerns(name) for name in changed)

    def _sources(self) -> list[str]:
        return sorted(name for name in read_tree(str(self.folder)) if name.endswith(".py"))

    def _put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _write_manifest(self) -> None:
        sources = dict.fromkeys(self._sources(), "")
        if not any(f"services/{service}/workflow.py" in sources for service in self._settings):
            self._settings.setdefault("alpha", ())  # a manifest has a target
            self._put("services/alpha/workflow.py", "VALUE = ''\n")
            sources["services/alpha/workflow.py"] = ""
        self.checkout.write("deploy.toml", manifest(sources, self._settings, str(self._remark)))

    # each takes the name of a source file and a number, and gives what it touched without changing its text

    def _edit(self, name: str, number: int) -> None:
        self._renumber(name, f"{number}00")

    def _same_size(self, name: str, number: int) -> None:
        self._renumber(name, str(number % 10))

    def _time_put_back(self, name: str, number: int) -> None:
        before = (self.folder / name).stat()
        self._renumber(name, str(number % 10))
        os.utime(self.folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _renumber(self, name: str, number: str) -> None:
        text = self.checkout.read(name)
        new = re.sub(r'NUMBER = "\d+"', f'NUMBER = "{number}"', text)
        self._put(name, new if "NUMBER = " in text else f"# {number}\n")

    def _touch(self, name: str, _number: int) -> None:
        os.utime(self.folder / name)

    def _comment(self, _name: str, number: int) -> None:
        self._remark = number
        self._write_manifest()

    def _rename(self, name: str, number: int) -> None:
        self._moved(name, f"{os.path.dirname(name) or '.'}/renamed{number % 3}.py")

    def _move(self, name: str, number: int) -> None:
        folder = ("shared", *(f"services/{service}" for service in SERVICES))[number % 4]
        self._moved(name, f"{folder}/{os.path.basename(name)}")

    def _moved(self, old: str, new: str) -> None:
        (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
        if not (self.folder / new).is_dir() and not (self.folder / old).is_symlink():
            os.replace(self.folder / old, self.folder / new)
        self._write_manifest()

    def _delete(self, name: str, _number: int) -> None:
        self._removed[name] = self.checkout.read(name)
        (self.folder / name).unlink()
        for link in self.folder.rglob("*.py"):
            if link.is_symlink() and not link.exists():
                link.unlink()
        self._write_manifest()

    def _undelete(self, _name: str, _number: int) -> None:
        if self._removed:
            self._put(*self._removed.popitem())
            self._write_manifest()

    def _shadow(self, name: str, number: int) -> None:
        """A package beside a module, a file of its name beside a workflow or in the root, a file beside `shared`."""
        stem = os.path.basename(name).removesuffix(".py")
        places = (f"{name.removesuffix('.py')}/__init__.py", f"services/alpha/{stem}.py", f"{stem}.py", "shared.py")
        new = places[number % len(places)]
        if stem not in ("__init__", "workflow") and not os.path.lexists(self.folder / new):
            self._put(new, f'NUMBER = "{number}"\nVALUE = NUMBER\n\n\ndef work(x: int) -> str:\n    return VALUE\n')

    def _spare(self, _name: str, number: int) -> None:
        self._put("shared/spare.py", f"SPARE = {number}\n")

    def _data(self, _name: str, number: int) -> None:
        self._put("data/one.txt", str(number % 5))

    def _late_data(self, _name: str, number: int) -> None:
        if number % 3:
            self._put("data/late.txt", str(number % 3))
        else:
            (self.folder / "data/late.txt").unlink(missing_ok=True)

    def _plugin(self, _name: str, number: int) -> None:
        path = self.folder / "plugins" / f"plugin{number % 2}"
        if path.exists():
            path.unlink()
        else:
            path.touch()

    def _variable(self, _name: str, number: int) -> None:
        self.checkout.environ["STAGE"] = str(number % 3)

    def _distribution(self, _name: str, number: int) -> None:
        self._install(number % 3)

    def _install(self, number: int) -> None:
        shutil.rmtree(self.site, ignore_errors=True)
        folder = self.site / f"{DISTRIBUTION}-1.{number}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.{number}\n")

    def _mode(self, name: str, number: int) -> list[str]:
        (self.folder / name).chmod((0o644, 0o755, 0o600)[number % 3])
        return self._same_file(name)

    def _link(self, name: str, number: int) -> list[str]:
        """A module becomes a link to a file of the same content elsewhere."""
        path = self.folder / name
        kept = f"links/kept{number % 3}.py"
        text = self.checkout.read(name)
        if name.startswith("links/"):
            return []
        path.unlink()
        self._put(kept, text)
        path.symlink_to(os.path.relpath(self.folder / kept, path.parent))
        return [name, *self._same_file(kept)]

    def _same_file(self, name: str) -> list[str]:
        """Names of one file, whose content or mode changes under all of them."""
        there = (self.folder / name).resolve()
        return [other for other in self._sources() if (self.folder / other).resolve() == there]

    def _setting(self, _name: str, number: int) -> None:
        service, line = SERVICES[number % len(SERVICES)], SETTINGS[number % len(SETTINGS)]
        if service in self._settings:
            self._settings[service] = tuple(sorted(set(self._settings[service]) ^ {line}))
        self._write_manifest()

    def _target(self, _name: str, number: int) -> None:
        service = SERVICES[1 + number % 2]
        if self._settings.pop(service, None) is None:
            self._settings[service] = ()
        self._write_manifest()


def _bring_up_to_date(project: Project, name: str, step: str, ran: dict[str, str]) -> None:
    target = project.manifest.targets[name]
    if isinstance(pipeline.judge(project, target, step), Stale):
        ran[step] = "failed"
        ran[step] = pipeline.run(project, target, step).reason
