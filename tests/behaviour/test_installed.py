"""What is installed while a deploy is under way: nothing that was loaded with it is taken for made without it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.repository import Repository, small

WORKFLOW = """
    import os
    import time

    import flyte

    if os.path.exists("wait"):
        open("waiting", "w").close()
        while os.path.exists("wait"):
            time.sleep(0.01)
    import acme

    if os.path.exists("stay"):
        open("loaded", "w").close()
        while os.path.exists("stay"):
            time.sleep(0.01)
    env = flyte.TaskEnvironment(name="fraud", env_vars={"ACME": acme.VERSION})


    @env.task
    async def score(amount: int) -> int:
        return amount + 1
"""


def install(repository: Repository, version: str) -> None:
    site = repository.folder / "lib/site-packages"
    for old in site.glob("acme-*"):
        shutil.rmtree(old)
    repository.write("lib/site-packages/acme.py", f'VERSION = "{version}"\n')
    repository.write(f"lib/site-packages/acme-{version}.dist-info/RECORD", f"acme.py,sha256={version},16\n")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = small(tmp_path, fraud_py=WORKFLOW)
    made.environ["PYTHONPATH"] = str(tmp_path / "lib/site-packages")
    install(made, "1.0")
    return made


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def deployed_version(repository: Repository) -> str:
    (spec,) = Checkout(repository.folder).registered("fraud").values()
    return next(version for version in ("1.0", "2.0") if version.encode() in spec)


@pytest.mark.parametrize("afterwards", ["1.0", "2.0"])
def test_a_package_installed_while_the_code_is_about_to_load_leaves_nothing_stale(
    repository: Repository, afterwards: str
) -> None:
    for name in ("wait", "stay"):
        repository.write(name, "")
    process = repository.start("deploy")
    wait_for(repository.folder / "waiting", process)
    install(repository, "2.0")
    (repository.folder / "wait").unlink()
    wait_for(repository.folder / "loaded", process)
    install(repository, afterwards)
    (repository.folder / "stay").unlink()
    assert process.wait(60) == 0
    assert "discover  fraud  (installed distributions changed)\n" in repository.doit("deploy").err
    assert deployed_version(repository) == afterwards
    assert "1 fresh" in repository.doit("deploy").err


AT_START = "import sys\nsys.acme = {version!r}\n"
"""A `sitecustomize`: run by each interpreter as it starts, so by the parent of loads, as the SDK is imported there."""
BY_A_TASK = """\
from pathlib import Path

from flyte_build.dodo import *


def task_install():
    return {"actions": [lambda: Path("lib/site-packages/sitecustomize.py").write_text(%r) > 0]}
"""
MEANWHILE = """\
import time
from pathlib import Path

from flyte_build.dodo import *
from flyte_build.steps import workers

start = workers.shared_zygote
place = Path("lib/site-packages/sitecustomize.py")


def install_after_start(*words):
    zygote = start(*words)
    if not place.with_name("done").exists():
        time.sleep(2)
        place.write_text(%r)
        place.with_name("done").touch()
    return zygote


workers.shared_zygote = install_after_start
"""


def imported_at_start(folder: Path, dodo: str) -> Repository:
    made = small(folder, fraud_py=WORKFLOW.replace("import acme", "import sys").replace("acme.VERSION", "sys.acme"))
    made.environ["PYTHONPATH"] = str(folder / "lib/site-packages")
    made.write("lib/site-packages/sitecustomize.py", AT_START.format(version="1.0"))
    made.write("dodo.py", dodo % AT_START.format(version="2.0"))
    return made


def test_what_a_task_of_the_users_installs_counts_in_the_same_run(tmp_path: Path) -> None:
    repository = imported_at_start(tmp_path, BY_A_TASK)
    assert repository.doit("-n", "0", "install", "deploy").code == 0
    assert deployed_version(repository) == "2.0"
    assert "1 fresh" in repository.doit("deploy").err


def test_what_is_installed_after_the_parent_of_loads_has_begun_makes_the_next_run_load_again(tmp_path: Path) -> None:
    repository = imported_at_start(tmp_path, MEANWHILE)
    assert repository.doit("deploy").code == 0
    assert deployed_version(repository) == "1.0"
    assert "discover  fraud  (installed distributions changed)\n" in repository.doit("deploy").err
    assert deployed_version(repository) == "2.0"
    assert "1 fresh" in repository.doit("deploy").err


def test_a_module_of_the_users_that_their_interpreters_start_with_counts(tmp_path: Path) -> None:
    """The parent of loads imports it, before anybody records."""
    made = small(tmp_path, fraud_py=WORKFLOW.replace("import acme", "import sitecustomize as acme"))
    made.environ["PYTHONPATH"] = str(tmp_path / "lib")
    made.write("lib/sitecustomize.py", 'VERSION = "1.0"\n')
    assert made.doit("deploy").code == 0
    assert "1 fresh" in made.doit("deploy").err
    made.write("lib/sitecustomize.py", 'VERSION = "2.0"\n')
    assert "(lib/sitecustomize.py changed)" in made.doit("deploy").err
    assert deployed_version(made) == "2.0"
