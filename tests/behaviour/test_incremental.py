"""What makes a step run again, and what does not, for one repository that looks at everything that code can look at."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte_build import packing, pipeline
from flyte_build.backend import database as control_plane
from flyte_build.errors import PathLeavesRoot, StateUnwritable
from flyte_build.model import Bundle
from flyte_build.state import receipts
from flyte_build.state.receipts import Lost, Receipt
from tests.checkout import Checkout
from tests.edits import (
    Edit,
    copy,
    damaged,
    deleted,
    each,
    linked,
    mode,
    remove,
    rename,
    replace,
    rewrite,
    same_size_and_old_time,
    setting,
    table,
    touch_everything,
    variable,
)
from tests.repository import WORKFLOW

FILES = {
    "deploy.toml": """
        # what is deployed
        [images]
        default = "image:1"

        [targets.fraud]
        path = "services/fraud.py"
        environment = "env"
        root_dir = "."
        include = ["sql/*.sql"]
        pass_env = ["STAGE", "UNREAD"]
        """,
    "services/__init__.py": "",
    "services/fraud.py": """
        import glob
        import os
        import os.path
        from pathlib import Path

        import flyte
        import iniconfig

        from shared import rules
        from shared.limits import LIMIT

        RATES = Path("rates.csv").read_text()
        try:
            with open("override.txt") as file:
                OVERRIDE = file.read()
        except FileNotFoundError:
            OVERRIDE = "none"

        env = flyte.TaskEnvironment(
            name="fraud",
            env_vars={
                "STAGE": os.environ.get("STAGE", "dev"),
                "SECRET_SETTING": os.environ.get("SECRET_SETTING", "unset"),
                "RATES": RATES.strip(),
                "OVERRIDE": OVERRIDE,
                "PLUGINS": " ".join(sorted(os.listdir("plugins"))),
                "MODELS": " ".join(sorted(glob.glob("models/*.json"))),
                "FLAG": str(os.path.exists("flag.txt")),
            },
        )


        @env.task
        async def score(amount: int = LIMIT) -> int:
            '''Scores.'''
            from shared.lazy import weight

            return rules.apply(amount) * weight(amount)
        """,
    "shared/__init__.py": "",
    "shared/rules.py": "def apply(amount: int) -> int:\n    return amount\n",
    "shared/limits.py": "LIMIT = 10\n",
    "shared/lazy.py": "def weight(amount: int) -> int:\n    return 2\n",
    "shared/unused.py": "UNUSED = 1\n",
    "sql/query.sql": "select 1\n",
    "sql/notes.txt": "not included\n",
    "rates.csv": "a,1\n",
    "plugins/one.txt": "",
    "models/one.json": "{}\n",
    ".gitignore": "*.tmp\n",
    "README.md": "docs\n",
}

DISCOVERED = frozenset({"discover"})
"""The code was loaded again, and gave what it had given."""
REBOUND = frozenset({"discover", "serialize", "deploy"})
"""What the code declares changed, and none of the files that it is deployed with."""
REPACKED = frozenset({"bundle", "upload", "serialize", "deploy"})
"""Files that are deployed changed, and none that was read to find out what is declared."""
ALL = frozenset({"discover", *REPACKED})
"""The step `images` runs again only when an image is said to be another one."""


@dataclass(frozen=True)
class Change:
    """An edit, the steps that it makes run, and why the first of them does."""

    edit: Edit
    runs: frozenset[str]
    reason: str


RERUNS = {
    "task edited": Change(replace("services/fraud.py", "Scores.", "Gives a score."), ALL, "services/fraud.py changed"),
    "comment in a task": Change(
        lambda c: c.write("services/fraud.py", c.read("services/fraud.py") + "# end\n"),
        ALL,
        "services/fraud.py changed",
    ),
    "imported module edited": Change(replace("shared/limits.py", "10", "11"), ALL, "shared/limits.py changed"),
    "package file filled": Change(rewrite("shared/__init__.py", "X = 1\n"), ALL, "shared/__init__.py changed"),
    "package file removed": Change(remove("shared/__init__.py"), ALL, "shared/__init__.py is gone"),
    "same size, time put back": Change(
        same_size_and_old_time("shared/limits.py", "10", "99"), ALL, "shared/limits.py changed"
    ),
    "module becomes a package": Change(
        rename("shared/limits.py", "shared/limits/__init__.py"), ALL, "shared/limits.py is gone"
    ),
    "package beside a module": Change(
        rewrite("shared/limits/__init__.py", "LIMIT = 12\n"), ALL, "import of `limits` finds another file in shared"
    ),
    "module replaced by a link to another": Change(
        linked("shared/limits.py", "shared/real_limits.py"), ALL, "shared/limits.py changed"
    ),
    "installed module shadowed by a file": Change(
        rewrite("iniconfig.py", ""), ALL, "import of `iniconfig` finds another file in ."
    ),
    "installed module shadowed by a package": Change(
        rewrite("iniconfig/__init__.py", ""), ALL, "import of `iniconfig` finds another file in ."
    ),
    "lazily imported module edited": Change(replace("shared/lazy.py", "2", "3"), REPACKED, "shared/lazy.py changed"),
    "lazily imported module removed": Change(remove("shared/lazy.py"), REPACKED, "shared/lazy.py is gone"),
    "lazily imported module shadowed by a package": Change(
        rewrite("shared/lazy/__init__.py", ""), REPACKED, "shared/lazy is now folder"
    ),
    "data read at import edited": Change(rewrite("rates.csv", "a,2\n"), REBOUND, "rates.csv changed"),
    "data read at import edited without effect": Change(
        rewrite("rates.csv", "a,1\n\n"), DISCOVERED, "rates.csv changed"
    ),
    "file opened in vain appears": Change(rewrite("override.txt", "yes"), REBOUND, "override.txt is new"),
    "file looked for appears": Change(rewrite("flag.txt", ""), REBOUND, "flag.txt is now file"),
    "folder appears where a file was looked for": Change(
        lambda c: (c.folder / "flag.txt").mkdir(), REBOUND, "flag.txt is now folder"
    ),
    "file in a listed folder": Change(rewrite("plugins/two.txt", ""), REBOUND, "files in plugins changed"),
    "file out of a listed folder": Change(remove("plugins/one.txt"), REBOUND, "files in plugins changed"),
    "file in a listed folder made a folder": Change(
        each(remove("plugins/one.txt"), lambda c: (c.folder / "plugins/one.txt").mkdir()),
        DISCOVERED,
        "files in plugins changed",
    ),
    "file in a listed folder made a link": Change(
        linked("plugins/one.txt", "shared/one.txt"), DISCOVERED, "files in plugins changed"
    ),
    "file in a globbed folder": Change(rewrite("models/two.json", "{}"), REBOUND, "files in models changed"),
    "file in a globbed folder that the glob leaves out": Change(
        rewrite("models/two.txt", ""), DISCOVERED, "files in models changed"
    ),
    "included file edited": Change(rewrite("sql/query.sql", "select 2\n"), REPACKED, "sql/query.sql changed"),
    "included file added": Change(rewrite("sql/more.sql", "select 2\n"), REPACKED, "files in sql changed"),
    "included file renamed": Change(rename("sql/query.sql", "sql/other.sql"), REPACKED, "sql/query.sql is gone"),
    "file beside the included ones": Change(rewrite("sql/more.txt", ""), frozenset({"bundle"}), "files in sql changed"),
    "ignore file leaves out an included file": Change(
        rewrite("sql/.gitignore", "more.sql\n"), frozenset({"bundle"}), "files in sql changed"
    ),
    "ignore file edited": Change(rewrite(".gitignore", "*.tmp\n*.bak\n"), frozenset({"bundle"}), ".gitignore changed"),
    "ignore file appears": Change(
        rewrite(".flyteignore", "*.bak\n"), frozenset({"bundle"}), ".flyteignore is now file"
    ),
    "executable bit of a bundled file": Change(
        mode("sql/query.sql", 0o755), REPACKED, "sql/query.sql changed its executable bit"
    ),
    "executable bit of a module": Change(
        mode("shared/rules.py", 0o755), REPACKED, "shared/rules.py changed its executable bit"
    ),
    "passed variable set": Change(variable("STAGE", "prod"), REBOUND, "environment variable `STAGE` changed"),
    "path": Change(
        each(copy("services/fraud.py", "services/other.py"), replace("deploy.toml", "fraud.py", "other.py")),
        ALL,
        "`path` in [targets.fraud] changed",
    ),
    "all instead of environment": Change(
        replace("deploy.toml", 'environment = "env"', "all = true"),
        REBOUND | {"bundle"},
        "`environment` in [targets.fraud] changed",
    ),
    "exclude": Change(setting('exclude = ["shared/lazy.py"]'), ALL, "`exclude` in [targets.fraud] changed"),
    "include": Change(replace("deploy.toml", "sql/*.sql", "sql/*"), REPACKED, "`include` in [targets.fraud] changed"),
    "copy_style": Change(setting('copy_style = "all"'), REPACKED, "`copy_style` in [targets.fraud] changed"),
    "version": Change(
        setting('version = "v1"'), frozenset({"serialize", "deploy"}), "`version` in [targets.fraud] changed"
    ),
    "lazy_imports": Change(setting("lazy_imports = false"), REPACKED, "`lazy_imports` in [targets.fraud] changed"),
    "ignore_load_errors": Change(
        setting("ignore_load_errors = true"), DISCOVERED, "`ignore_load_errors` in [targets.fraud] changed"
    ),
    "sync_local_sys_paths": Change(
        setting("sync_local_sys_paths = false"),
        REBOUND | {"bundle"},
        "`sync_local_sys_paths` in [targets.fraud] changed",
    ),
    "pass_env": Change(
        replace("deploy.toml", '"UNREAD"', '"SECRET_SETTING"'), DISCOVERED, "`pass_env` in [targets.fraud] changed"
    ),
    "skip_apps": Change(setting("skip_apps = true"), DISCOVERED, "`skip_apps` in [targets.fraud] changed"),
    "max_bundle_size": Change(
        setting("max_bundle_size = 1000000"), frozenset({"bundle"}), "`max_bundle_size` in [targets.fraud] changed"
    ),
    "default image": Change(
        replace("deploy.toml", "image:1", "image:2"),
        frozenset({"images", "serialize", "deploy"}),
        "`default` in [images] changed",
    ),
    "image of a name": Change(
        replace("deploy.toml", "[images]", "[images]\nrefs = { base = 'image:3' }"),
        frozenset({"images"}),
        "`refs.base` in [images] changed",
    ),
    "project": Change(
        table("[flyte]\nproject = 'other'\n"), frozenset({"serialize", "deploy"}), "`project` in [flyte] changed"
    ),
    "domain": Change(
        table("[flyte]\ndomain = 'production'\n"), frozenset({"serialize", "deploy"}), "`domain` in [flyte] changed"
    ),
    "store": Change(
        lambda c: c.write("deploy.toml", f"[store]\nurl = 'file://{c.folder}/elsewhere'\n" + c.read("deploy.toml")),
        frozenset({"upload", "serialize", "deploy"}),
        "`url` in [store] changed",
    ),
    "archive deleted": Change(deleted("bundles"), frozenset({"bundle"}), "its result RESULT is gone"),
    "archive damaged": Change(damaged("bundles"), frozenset({"bundle"}), "its result RESULT was changed"),
    "drafts damaged": Change(
        damaged("objects"),
        frozenset({"discover", "bundle", "serialize"}),
        "its result RESULT was changed",
    ),
    "stored copy damaged": Change(damaged("store"), frozenset({"upload"}), "its result RESULT was changed"),
    "archive and stored copy deleted": Change(
        each(deleted("bundles"), deleted("store")),
        frozenset({"bundle", "upload"}),
        "its result RESULT is gone",
    ),
    "drafts deleted": Change(
        deleted("objects"),
        frozenset({"discover", "bundle", "serialize"}),
        "its result RESULT is gone",
    ),
    "stored copy deleted": Change(deleted("store"), frozenset({"upload"}), "its result RESULT is gone"),
    "control plane deleted": Change(
        deleted("backend"), frozenset({"deploy"}), ".flyte-build/backend/control-plane.sqlite is gone"
    ),
}

STAYS_FRESH: dict[str, Edit] = {
    "nothing": lambda c: None,
    "touched": touch_everything,
    "other file": rewrite("README.md", "other docs\n"),
    "new file in the root": rewrite("notes.py", "NOTES = 1\n"),
    "new file in a package": rewrite("shared/notes.py", "NOTES = 1\n"),
    "module that nothing imports": replace("shared/unused.py", "1", "2"),
    "file that no include takes": rewrite("sql/notes.txt", "still not\n"),
    "compiled leftovers": rewrite("shared/__pycache__/rules.cpython-311.pyc", "rubbish"),
    "mode of a data file": mode("rates.csv", 0o600),
    "mode of a bundled file, not the executable bit": mode("shared/rules.py", 0o600),
    "variable that is not passed": variable("SECRET_SETTING", "x"),
    "passed variable that nothing reads": variable("UNREAD", "x"),
    "comment in the manifest": replace("deploy.toml", "# what is deployed", "# what is deployed, and where"),
    "order of keys in the manifest": lambda c: c.write(
        "deploy.toml", c.read("deploy.toml").replace('root_dir = "."\n', "") + 'root_dir = "."\n'
    ),
    "other spelling of a folder": replace("deploy.toml", 'root_dir = "."', 'root_dir = "services/.."'),
    "load_timeout": setting("load_timeout = 20"),
    "another profile's table": lambda c: c.write(
        "deploy.toml", c.read("deploy.toml") + "[profiles.prod.flyte]\ndomain = 'production'\n"
    ),
    "edit that is undone": each(replace("shared/limits.py", "10", "11"), replace("shared/limits.py", "11", "10")),
    "file away and back": each(rename("rates.csv", "gone"), rename("gone", "rates.csv")),
    "file index deleted": lambda c: c.state("files.json").unlink(missing_ok=True),
    "file index damaged": lambda c: c.state("files.json").write_bytes(b'{"format": 1, "files": {"'),
    "file index of another format": lambda c: c.state("files.json").write_bytes(
        b'{"format": 99, "files": {}, "folders": {}}'
    ),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Deployed."""
    made = Checkout(tmp_path / "repo", FILES)
    assert set(made.deploy()) == set(pipeline.STEPS)
    return made


@pytest.mark.parametrize("change", RERUNS.values(), ids=list(RERUNS))
def test_a_change_reruns_the_steps_that_it_concerns_and_no_others(change: Change, checkout: Checkout) -> None:
    change.edit(checkout)
    ran = checkout.deploy()
    assert set(ran) == change.runs
    assert re.sub(r"(/\S+/|\w+/)?[0-9a-f]{32}(\.tar\.gz)?", "RESULT", next(iter(ran.values()))) == change.reason
    left = checkout.left("fraud")
    assert checkout.deploy() == {}
    assert checkout.registered("fraud") == left.specs
    shutil.rmtree(checkout.state("."))
    checkout.deploy()
    assert checkout.left("fraud") == left, "a clean deploy leaves something else"


@pytest.mark.parametrize(
    ("link", "settings", "reason"),
    [
        ("cur", 'path = "cur/wf.py"\nall = true', "resolved path changed"),
        ("cur", 'path = "cur"\nrecursive = true', "resolved path changed"),
        ("cur", 'path = "cur/wf.py"\nroot_dir = "cur"\nall = true', "resolved path changed"),
    ],
)
def test_a_link_on_the_way_to_a_target_that_leads_elsewhere_makes_it_stale(
    link: str, settings: str, reason: str, tmp_path: Path
) -> None:
    other = WORKFLOW.replace("amount + 1", "amount + 2")
    manifest = f"[targets.linked]\n{settings}\n"
    checkout = Checkout(tmp_path / "repo", {"deploy.toml": manifest, "a/wf.py": WORKFLOW, "b/wf.py": other})
    (checkout.folder / link).symlink_to("a")
    checkout.deploy()
    assert checkout.deploy() == {}
    (checkout.folder / link).unlink()
    (checkout.folder / link).symlink_to("b")
    ran = checkout.deploy()
    assert ran["discover"] == reason
    assert "bundle" in ran
    left = checkout.left("linked")
    shutil.rmtree(checkout.state("."))
    checkout.deploy()
    assert checkout.left("linked") == left


@pytest.mark.parametrize("settings", ['path = "root/wf.py"\nall = true', 'path = "root/sub"\nrecursive = true'])
def test_a_path_that_leads_out_of_the_root_is_told(settings: str, tmp_path: Path) -> None:
    manifest = f'[targets.linked]\nroot_dir = "root"\n{settings}\n'
    checkout = Checkout(tmp_path / "repo", {"deploy.toml": manifest, "real/wf.py": WORKFLOW, "root/x.py": ""})
    (checkout.folder / "root/wf.py").symlink_to("../real/wf.py")
    (checkout.folder / "root/sub").symlink_to("../real")
    with pytest.raises(PathLeavesRoot) as caught:
        checkout.deploy()
    path = re.search(r'path = "(.*)"', settings)
    assert path is not None
    real = "real/wf.py" if path[1].endswith(".py") else "real"
    assert caught.value.message == (
        f"[targets.linked] path: `{path[1]}` leads to `{real}`, which is outside the root `root`; "
        "put the file itself there, or set `root_dir` to a folder that holds both"
    )


def test_files_of_an_installed_distribution_and_path_files_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    checkout = Checkout(tmp_path / "repo", FILES)
    for name in ("other-1.0.dist-info/RECORD", "other.pth", "other.egg-link", "sitecustomize.py", "other.abi3.so"):
        for text in ("one", "two"):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
            before = checkout.project().installed_distributions
            (site / name).write_text(f"{text} more")
            assert checkout.project().installed_distributions != before


def test_a_module_or_package_copied_beside_installed_distributions_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    checkout = Checkout(tmp_path / "repo", FILES)
    checkout.deploy()
    for name in ("copied.py", "copied/__init__.py"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("LIMIT = 1\n")
        assert checkout.deploy()["discover"].startswith("installed distributions changed: copied")
        assert checkout.deploy() == {}
    (site / "__pycache__").mkdir()
    assert checkout.deploy() == {}


def test_a_file_that_comes_while_the_bundle_is_packed_makes_it_stale(
    everything: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = packing.pack

    def meanwhile(*arguments: Any) -> Bundle:
        everything.write("late.sql", "select 1\n")
        return pack(*arguments)

    monkeypatch.setattr(packing, "pack", meanwhile)
    everything.write("early.sql", "select 1\n")
    assert "bundle" in everything.deploy()
    monkeypatch.undo()
    assert everything.deploy()["bundle"] == "files in . changed"


@pytest.mark.parametrize("edit", STAYS_FRESH.values(), ids=list(STAYS_FRESH))
def test_what_concerns_no_step_reruns_none(edit: Edit, checkout: Checkout) -> None:
    edit(checkout)
    assert checkout.deploy() == {}


SETTLE = 2.2
"""Seconds after which the file index trusts a file's times."""


def test_the_file_index_sees_every_edit_of_a_tree_that_it_knows(checkout: Checkout) -> None:
    time.sleep(SETTLE)
    assert checkout.deploy() == {}
    assert len(json.loads(checkout.state("files.json").read_bytes().partition(b"\n")[2])["files"]) > 5
    edits = {
        "shared/limits.py changed": same_size_and_old_time("shared/limits.py", "10", "99"),
        "rates.csv changed": same_size_and_old_time("rates.csv", "a,1", "a,7"),
        "shared/lazy.py changed": same_size_and_old_time("shared/lazy.py", "2", "5"),
        "sql/query.sql changed its executable bit": mode("sql/query.sql", 0o755),
        "files in plugins changed": rewrite("plugins/two.txt", ""),
        "files in models changed": remove("models/one.json"),
    }
    for reason, edit in edits.items():
        edit(checkout)
        assert next(iter(checkout.deploy().values())) == reason
        assert checkout.deploy() == {}


# --- targets of other kinds

FOLDER = {
    "deploy.toml": """
        [targets.everything]
        path = "services"
        recursive = true
        copy_style = "all"
        """,
    "services/one.py": WORKFLOW,
    "services/deep/two.py": WORKFLOW.replace("fraud", "two"),
    "services/deep/notes.md": "notes",
    "data/table.csv": "a",
    ".gitignore": "*.log\nbuild/\n",
}
NEW_WORKFLOW = WORKFLOW.replace("fraud", "three")
FOLDER_RERUNS = {
    "new workflow": Change(rewrite("services/three.py", NEW_WORKFLOW), ALL, "files in services changed"),
    "new workflow in a new folder": Change(
        rewrite("services/far/three.py", NEW_WORKFLOW), ALL, "files in services changed"
    ),
    "workflow removed": Change(remove("services/one.py"), ALL, "services/one.py is gone"),
    "workflow ignored": Change(rewrite("services/.gitignore", "deep/\n"), ALL, "files in services changed"),
    "ignore file lets data in": Change(rewrite(".gitignore", "*.log\n"), ALL, ".gitignore changed"),
    "new data": Change(rewrite("data/more.csv", "b"), REPACKED, "files in data changed"),
    "data edited": Change(rewrite("data/table.csv", "b"), REPACKED, "data/table.csv changed"),
    "new folder of data": Change(rewrite("more/table.csv", "b"), REPACKED, "files in . changed"),
    "data ignored": Change(rewrite(".gitignore", "*.log\nbuild/\n*.csv\n"), ALL, ".gitignore changed"),
    "note beside a workflow": Change(rewrite("services/deep/more.md", ""), ALL, "files in services/deep changed"),
}
FOLDER_STAYS_FRESH: dict[str, Edit] = {
    "touched": touch_everything,
    "ignored file edited": rewrite("data/run.log", "more"),
    "hidden by a folder that is ignored": rewrite("build/table.csv", "b"),
}


@pytest.fixture
def everything(tmp_path: Path) -> Checkout:
    """Deployed, with some files that are ignored."""
    made = Checkout(tmp_path / "repo", FOLDER)
    made.write("data/run.log", "")
    made.write("build/other.csv", "")
    made.deploy()
    return made


@pytest.mark.parametrize("change", FOLDER_RERUNS.values(), ids=list(FOLDER_RERUNS))
def test_a_change_in_a_folder_reruns_the_steps_that_it_concerns(change: Change, everything: Checkout) -> None:
    change.edit(everything)
    ran = everything.deploy()
    assert set(ran) - {"images"} == change.runs
    assert next(iter(ran.values())) == change.reason
    left = everything.left("everything")
    assert everything.deploy() == {}
    shutil.rmtree(everything.state("."))
    everything.deploy()
    assert everything.left("everything") == left


@pytest.mark.parametrize("edit", FOLDER_STAYS_FRESH.values(), ids=list(FOLDER_STAYS_FRESH))
def test_what_is_left_out_of_a_folder_reruns_nothing(edit: Edit, everything: Checkout) -> None:
    edit(everything)
    assert everything.deploy() == {}


BELOW = {
    "deploy.toml": """
        [targets.below]
        path = "project/src/flow.py"
        all = true
        root_dir = "project/src"
        include = ["project/src/data/*.csv"]
        """,
    "project/src/flow.py": WORKFLOW.replace('"fraud"', '"below", include=("more/*.txt",)').replace(
        "import flyte", "import flyte\n    from rules import apply"
    ),
    "project/src/rules.py": "apply = 1\n",
    "project/src/data/a.csv": "a",
    "project/src/more/a.txt": "a",
    "project/notes.py": "",
    ".git/HEAD": "",
    "project/.gitignore": "*.log\n",
}
BELOW_RERUNS = {
    "module": Change(rewrite("project/src/rules.py", "apply = 2\n"), ALL, "project/src/rules.py changed"),
    "shadowed": Change(
        rewrite("project/src/rules/__init__.py", "apply = 2\n"),
        ALL,
        "import of `rules` finds another file in project/src",
    ),
    "included by the manifest": Change(
        rewrite("project/src/data/b.csv", ""), REPACKED, "files in project/src/data changed"
    ),
    "included by an environment": Change(
        rewrite("project/src/more/b.txt", ""), REPACKED, "files in project/src/more changed"
    ),
    "ignored above the root": Change(
        rewrite("project/.gitignore", "*.log\nb.csv\n"), frozenset({"bundle"}), "project/.gitignore changed"
    ),
    "ignore file far above the root": Change(
        rewrite(".gitignore", "b.csv\n"), frozenset({"bundle"}), ".gitignore is now file"
    ),
}
BELOW_STAYS_FRESH: dict[str, Edit] = {
    "beside the root": rewrite("project/notes.py", "NOTES = 1\n"),
    "module of the same name beside the root": rewrite("project/rules.py", "apply = 3\n"),
}


@pytest.fixture
def below(tmp_path: Path) -> Checkout:
    """Deployed; imports start in a folder further down."""
    made = Checkout(tmp_path / "repo", BELOW)
    made.deploy()
    return made


@pytest.mark.parametrize("change", BELOW_RERUNS.values(), ids=list(BELOW_RERUNS))
def test_a_change_below_another_root_reruns_the_steps_that_it_concerns(change: Change, below: Checkout) -> None:
    change.edit(below)
    ran = below.deploy()
    assert (set(ran), next(iter(ran.values()))) == (set(change.runs), change.reason)
    assert below.deploy() == {}


@pytest.mark.parametrize("edit", BELOW_STAYS_FRESH.values(), ids=list(BELOW_STAYS_FRESH))
def test_what_is_outside_another_root_reruns_nothing(edit: Edit, below: Checkout) -> None:
    edit(below)
    assert below.deploy() == {}


# --- the state folder, damaged

STEPS = tuple(pipeline.STEPS)


@pytest.fixture(scope="module")
def receipts_of_a_deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Checkout(tmp_path_factory.mktemp("receipts"), FILES)
    made.deploy()
    return made.state("targets/fraud")


@pytest.mark.parametrize("step", STEPS)
def test_a_receipt_cut_off_at_any_byte_is_no_receipt(step: str, receipts_of_a_deploy: Path, tmp_path: Path) -> None:
    whole = (receipts_of_a_deploy / f"{step}.json").read_bytes()
    path = tmp_path / "receipt.json"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert receipts.load(path) == Lost(reason="its receipt was damaged; starting over")


@pytest.mark.parametrize("step", STEPS)
def test_a_receipt_with_any_byte_changed_is_no_receipt(step: str, receipts_of_a_deploy: Path, tmp_path: Path) -> None:
    whole = (receipts_of_a_deploy / f"{step}.json").read_bytes()
    path = tmp_path / "receipt.json"
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert receipts.load(path) == Lost(reason="its receipt was damaged; starting over")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff\xfe", b'{"seal":"","receipt":{}}'])
def test_a_step_with_a_damaged_receipt_runs_again(step: str, content: bytes, checkout: Checkout) -> None:
    before = checkout.left("fraud")
    checkout.state(f"targets/fraud/{step}.json").write_bytes(content)
    assert checkout.deploy() == {step: "its receipt was damaged; starting over"}
    assert checkout.left("fraud") == before
    assert checkout.deploy() == {}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_with_a_receipt_of_another_format_runs_again(
    step: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkout.state(f"targets/fraud/{step}.json")
    receipt = receipts.load(path)
    assert isinstance(receipt, Receipt)
    receipts.save(path, msgspec.structs.replace(receipt, format=receipts.FORMAT + 1))
    assert checkout.deploy() == {step: "its receipt is of another version of flyte_build; starting over"}


def test_a_receipt_that_was_copied_from_another_target_is_not_believed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, FILES)
    checkout.write("deploy.toml", FILES["deploy.toml"] + "[targets.other]\npath = 'services/other.py'\nall = true\n")
    checkout.write("services/other.py", FILES["services/fraud.py"].replace("fraud", "other"))
    checkout.deploy()
    for step in STEPS:
        shutil.copy(checkout.state(f"targets/fraud/{step}.json"), checkout.state(f"targets/other/{step}.json"))
    assert set(checkout.deploy()) >= {"discover:other", "bundle:other", "serialize:other", "deploy:other"}


def test_a_new_control_plane_gets_the_tasks_of_every_target(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, FILES)
    checkout.write("deploy.toml", FILES["deploy.toml"] + "[targets.other]\npath = 'services/other.py'\nall = true\n")
    checkout.write("services/other.py", FILES["services/fraud.py"].replace("fraud", "other"))
    checkout.deploy()
    for gone in (".", control_plane.FILE):
        if gone == ".":
            shutil.rmtree(checkout.state("backend"))
        else:
            for path in checkout.state("backend").glob(f"{gone}*"):
                path.unlink()
        assert set(checkout.deploy()) == {"deploy:fraud", "deploy:other"}
        assert checkout.registered("other") == checkout.left("other").specs
        assert checkout.registered("fraud") == checkout.left("fraud").specs
        assert checkout.deploy() == {}


@pytest.mark.parametrize("place", ["targets", "targets/fraud"])
def test_a_file_in_the_place_of_a_state_folder_is_told(place: str, checkout: Checkout) -> None:
    shutil.rmtree(checkout.state(place))
    checkout.state(place).touch()
    with pytest.raises(StateUnwritable) as caught:
        checkout.deploy()
    path = checkout.state("targets/fraud/discover.json")
    assert caught.value.message == (
        f"{path}: cannot be written: Not a directory; "
        "free some space, make the folder writable, or remove what is in its place"
    )
