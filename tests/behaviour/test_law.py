"""An incremental deploy leaves exactly what a clean one would, and a clean one leaves the same on every machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.monorepo import generate
from flyte_build.errors import StepError
from flyte_build.steps import discover
from tests.behaviour.test_incremental import FILES
from tests.checkout import Checkout, Left
from tests.edits import Edit
from tests.repository import Repository

# --- incremental equals clean

CONTENTS = {
    "shared/limits.py": ("LIMIT = 10\n", "LIMIT = 11\n", "LIMIT = 10  # ten\n", "LIMIT =\n", None),
    "shared/limits/__init__.py": ("LIMIT = 12\n", "from shared.unused import UNUSED as LIMIT\n", None),
    "shared/lazy.py": (FILES["shared/lazy.py"], "from shared import unused\n", "syntax error\n", None),
    "shared/unused.py": ("UNUSED = 1\n", "UNUSED = 2\n"),
    "shared/__init__.py": ("", "X = 1\n", None),
    "iniconfig.py": ("", "import json\n", None),
    "rates.csv": ("a,1\n", "a,2\n", None),
    "override.txt": ("yes", "no", None),
    "flag.txt": ("", None),
    "plugins/two.txt": ("", "more", None),
    "models/two.json": ("{}", None),
    "sql/query.sql": ("select 1\n", "select 2\n", None),
    "sql/more.sql": ("select 3\n", None),
    "sql/.gitignore": ("more.sql\n", "*.sql\n", None),
    ".gitignore": ("*.tmp\n", "shared/\n"),
}
"""File -> what it may hold; None: there is no such file."""
LINES = {
    "lazy_imports = false": "lazy_imports",
    'copy_style = "all"': "copy_style",
    'exclude = ["shared/unused.py"]': "exclude",
    "sync_local_sys_paths = false": "sync_local_sys_paths",
    'version = "{content}-x"': "version",
    "ignore_load_errors = true": "ignore_load_errors",
}


def write(name: str, content: str | None) -> Edit:
    def edit(checkout: Checkout) -> None:
        path = checkout.folder / name
        if content is not None:
            checkout.write(name, content)
        else:
            path.unlink(missing_ok=True)
            if name == "shared/limits/__init__.py" and path.parent.is_dir():
                shutil.rmtree(path.parent)

    return edit


def toggle(line: str) -> Edit:
    def edit(checkout: Checkout) -> None:
        text = checkout.read("deploy.toml")
        checkout.write("deploy.toml", text.replace(f"{line}\n", "") if line in text else f"{text}{line}\n")

    return edit


def stage(value: str | None) -> Edit:
    def edit(checkout: Checkout) -> None:
        checkout.environ.pop("STAGE", None)
        checkout.environ.update({} if value is None else {"STAGE": value})

    return edit


def executable(name: str, bits: int) -> Edit:
    def edit(checkout: Checkout) -> None:
        if (checkout.folder / name).exists():
            (checkout.folder / name).chmod(bits)

    return edit


def spoil(name: str) -> Edit:
    """Remove something from the state folder."""

    def edit(checkout: Checkout) -> None:
        path = checkout.state(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return edit


STATE = (
    "objects",
    "bundles",
    "store",
    "backend",
    "files.json",
    "targets/fraud/discover.json",
    "targets/fraud/upload.json",
)
EDITS = {
    **{f"{name} = {text!r}": write(name, text) for name, texts in CONTENTS.items() for text in texts},
    **{line: toggle(line) for line in LINES},
    **{f"STAGE={value}": stage(value) for value in ("a", "b", None)},
    **{
        f"{name} {bits:o}": executable(name, bits)
        for name in ("sql/query.sql", "shared/rules.py")
        for bits in (0o644, 0o755)
    },
    **{f"rm -r .flyte-build/{name}": spoil(name) for name in STATE},
}
Script = list[tuple[str, bool]]
"""Edits, by name, and whether there is a deploy after each."""
scripts = st.lists(st.tuples(st.sampled_from(sorted(EDITS)), st.booleans()), min_size=8, max_size=16)


def outcome(checkout: Checkout) -> Left | str:
    """What a deploy leaves, or its error."""
    try:
        checkout.deploy()
    except StepError as error:
        return error.message
    left = checkout.left("fraud")
    assert checkout.registered("fraud") == left.specs
    assert checkout.deploy() == {}
    return left


def check(script: Script) -> None:
    with TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder) / "repo", FILES)
        outcome(checkout)
        for name, deploys in script:
            EDITS[name](checkout)
            if deploys:
                outcome(checkout)
        incremental = outcome(checkout)
        shutil.rmtree(checkout.state("."))
        assert incremental == outcome(checkout)


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(scripts)
def test_after_any_edits_an_incremental_deploy_leaves_what_a_clean_one_does(script: Script) -> None:
    check(script)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_after_many_more_edits_an_incremental_deploy_leaves_what_a_clean_one_does(script: Script) -> None:
    check(script)


# --- every machine


def machine(folder: Path, store: Path, *, backwards: bool) -> Repository:
    """A checkout of the same content, its files written in one order or the other."""
    made = folder / "written"
    generate(made, 2, settings=f"[store]\nurl = 'file://{store}'\n")
    (made / "services" / "svc_000" / "größe.csv").write_text("ü")
    (made / "services" / "svc_000" / "run.sh").write_text("true")
    (made / "services" / "svc_000" / "run.sh").chmod(0o755)
    with (made / "deploy.toml").open("a") as file:
        file.write('include = ["services/svc_000/*.csv", "services/svc_000/run.sh"]\n')
    with (made / "shared" / "__init__.py").open("a") as file:
        file.write("NAMES = {name for name in ('a', 'b', 'c', 'd', 'e', 'f', 'g')}\n")
    with (made / "services" / "svc_000" / "workflow.py").open("a") as file:
        file.write("from shared import NAMES\nmain_env.env_vars = {'NAMES': ' '.join(NAMES)}\n")
    repository = Repository(folder / "repo")
    for path in sorted((path for path in made.rglob("*") if path.is_file()), reverse=backwards):
        copy = repository.folder / path.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(path.stat().st_mode & (0o700 if backwards else 0o777))
        os.utime(copy, (1, 1) if backwards else (2_000_000_000, 2_000_000_000))
    return repository


def everything_left(repository: Repository) -> dict[str, Left]:
    checkout = Checkout(repository.folder)
    return {name: checkout.left(name) for name in checkout.project().manifest.targets}


def test_two_checkouts_give_the_same_versions_bundles_and_specs(tmp_path: Path) -> None:
    here = machine(tmp_path / "here", tmp_path / "store", backwards=False)
    there = machine(tmp_path / "a longer way" / "ünd" / "there", tmp_path / "store", backwards=True)
    here.environ |= {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1", "USER": "me"}
    there.environ |= {"TZ": "America/Lima", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "USER": "you", "HOME": "/"}
    first = here.doit("deploy")
    assert first.code == 0, first.err
    before = os.umask(0o077)
    try:
        second = there.doit("-n", "2", "deploy")
    finally:
        os.umask(before)
    assert second.code == 0, second.err
    assert everything_left(here) == everything_left(there)


def test_two_checkouts_give_the_same_discovery(tmp_path: Path) -> None:
    """Also where the code looks at what lies outside of them."""
    found = []
    for name in ("here", "there"):
        checkout = Checkout(tmp_path / name / "repo", FILES)
        checkout.write("../outside/side.txt", "1")
        lines = (
            "import contextlib, sys\nsys.path.append('../outside')\n"
            "with contextlib.suppress(ImportError):\n    import side\n"
            "SIDE = open('../outside/side.txt').read()\nLIMIT = 10\n"
        )
        checkout.write("shared/limits.py", lines)
        checkout.deploy("discover")
        found.append(checkout.project().result("fraud", "discover", discover.Result).discovery)
    assert found[0] == found[1]


def test_a_moved_checkout_is_deployed_as_before(tmp_path: Path) -> None:
    """What code looks at is remembered relative to the manifest, and the store is elsewhere."""
    checkout = Checkout(tmp_path / "first", FILES)
    checkout.write("deploy.toml", f"[store]\nurl = 'file://{tmp_path}/store'\n" + checkout.read("deploy.toml"))
    checkout.deploy()
    left = checkout.left("fraud")
    moved = Checkout(checkout.folder.rename(tmp_path / "second"))
    assert moved.deploy() == {}
    assert moved.left("fraud") == left


def test_a_checkout_reached_through_a_link_is_the_same_checkout(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "deep" / "down" / "real", FILES)
    checkout.deploy()
    (tmp_path / "link").symlink_to(checkout.folder)
    assert Checkout(tmp_path / "link").deploy() == {}
