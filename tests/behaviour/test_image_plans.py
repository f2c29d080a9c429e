"""Images are planned where code is discovered: what they hold is watched, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from flyte_build.errors import ImageFileMissing
from flyte_build.model import ImageBuild
from flyte_build.state import digest
from flyte_build.steps import discover
from tests.checkout import Checkout

JOB = """
    from pathlib import Path

    import flyte

    HERE = Path(__file__).parent
    base = flyte.Image.from_base("python:3.12").clone(name="job", registry="ghcr.io/org", extendable=True)
    image = (
        base.with_requirements("requirements.txt")
        .with_uv_project(HERE / "app" / "pyproject.toml")
        .with_source_folder(HERE / "src")
    )
    env = flyte.TaskEnvironment(name="env", image=image)
    same = flyte.TaskEnvironment(name="same", image=image)
    equal = flyte.TaskEnvironment(name="equal", image=base.with_env_vars({"A": "1"}))
    equal_too = flyte.TaskEnvironment(name="equal_too", image=base.with_env_vars({"A": "1"}))
    dockerfile = flyte.Image.from_dockerfile("docker/Dockerfile", "ghcr.io/org", "own")
    own = flyte.TaskEnvironment(name="own", image=dockerfile)
    script = flyte.TaskEnvironment(name="script", image=flyte.Image.from_uv_script("script.py", name="script"))


    @env.task
    async def task(amount: int) -> int:
        return amount
"""
FILES = {
    "deploy.toml": '[targets.job]\npath = "job.py"\nall = true\n',
    "job.py": JOB,
    "requirements.txt": "httpx\n",
    "app/pyproject.toml": '[project]\nname = "app"\n',
    "app/uv.lock": '[[package]]\nname = "app"\nsource = { virtual = "." }\n',
    "src/a.py": "A = 1\n",
    "src/notes.txt": "a\n",
    "docker/Dockerfile": "FROM python:3.12\nCOPY . .\n",
    "docker/data.txt": "a\n",
    "script.py": "# /// script\n# dependencies = ['httpx']\n# ///\n",
    "elsewhere/b.py": "B = 1\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path, FILES)
    made.deploy("discover")
    return made


def builds(checkout: Checkout) -> dict[str, ImageBuild]:
    project = checkout.project()
    drafts = discover.load(project, project.manifest.targets["job"]).environments
    return {draft.name: draft.image.build for draft in drafts if draft.image.build is not None}


def changed(checkout: Checkout, before: dict[str, ImageBuild]) -> set[str]:
    now = builds(checkout)
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


@pytest.mark.parametrize(
    ("name", "environments"),
    [
        ("requirements.txt", {"env", "same"}),
        ("app/pyproject.toml", {"env", "same"}),
        ("app/uv.lock", {"env", "same"}),
        ("src/a.py", {"env", "same"}),
        ("docker/Dockerfile", {"own"}),
        ("docker/data.txt", {"own"}),
    ],
)
def test_an_edit_of_what_an_image_holds_plans_that_image_anew(
    name: str, environments: set[str], checkout: Checkout
) -> None:
    before = builds(checkout)
    checkout.write(name, checkout.read(name) + "# more\n")
    assert checkout.deploy("discover") == {"discover": f"{name} changed"}
    assert changed(checkout, before) == environments


@pytest.mark.parametrize(
    ("name", "text", "environments"),
    [
        (".dockerignore", "src/notes.txt\n", {"env", "same"}),
        ("docker/.dockerignore", "data.txt\n", {"own"}),
        ("docker/Dockerfile.dockerignore", "data.txt\n", {"own"}),
        ("src/new.txt", "new\n", {"env", "same"}),
        ("docker/new/file.txt", "new\n", {"own"}),
    ],
)
def test_a_file_that_comes_and_goes_changes_the_plan_and_back(
    name: str, text: str, environments: set[str], checkout: Checkout
) -> None:
    before = builds(checkout)
    checkout.write(name, text)
    assert checkout.deploy("discover") != {}
    assert changed(checkout, before) == environments
    (checkout.folder / name).unlink()
    if (checkout.folder / "docker/new").exists():
        (checkout.folder / "docker/new").rmdir()
    assert checkout.deploy("discover") != {}
    assert changed(checkout, before) == set()


def test_an_edit_of_an_ignore_file_is_seen(checkout: Checkout) -> None:
    checkout.write(".dockerignore", "src/notes.txt\n")
    checkout.deploy("discover")
    before = builds(checkout)
    checkout.write(".dockerignore", "# nothing\n")
    assert checkout.deploy("discover") == {"discover": ".dockerignore changed"}
    assert changed(checkout, before) == {"env", "same"}


def test_a_bit_that_makes_a_file_executable_is_seen(checkout: Checkout) -> None:
    before = builds(checkout)
    (checkout.folder / "src/notes.txt").chmod(0o755)
    assert checkout.deploy("discover") == {"discover": "src/notes.txt changed its executable bit"}
    assert changed(checkout, before) == {"env", "same"}


def test_the_body_of_a_script_is_not_part_of_its_image(checkout: Checkout) -> None:
    before = builds(checkout)
    checkout.write("script.py", checkout.read("script.py") + "print(1)\n")
    assert checkout.deploy("discover") == {"discover": "script.py changed"}
    assert changed(checkout, before) == set()
    checkout.replace("script.py", "httpx", "rich")
    checkout.deploy("discover")
    assert changed(checkout, before) == {"script"}


def test_times_and_unrelated_files_change_nothing(checkout: Checkout) -> None:
    for path in checkout.folder.rglob("*"):
        if path.is_file() and ".flyte-build" not in path.parts:
            os.utime(path, (1, 1))
    checkout.write("elsewhere/b.py", "B = 2\n")
    checkout.write("elsewhere/c.py", "C = 2\n")
    assert checkout.deploy("discover") == {}


def test_images_that_are_equal_are_planned_equal(checkout: Checkout) -> None:
    found = builds(checkout)
    assert found["env"] == found["same"]
    assert found["equal"] == found["equal_too"]
    assert len({build.json() for build in found.values()}) == 4


def test_another_checkout_plans_the_same_images(checkout: Checkout, tmp_path: Path) -> None:
    other = Checkout(tmp_path / "other" / "checkout", FILES)
    other.deploy("discover")
    assert builds(other) == builds(checkout)


def test_a_context_that_was_deleted_is_made_again(checkout: Checkout) -> None:
    context = builds(checkout)["env"].context
    checkout.state(f"objects/{context}").unlink()
    assert list(checkout.deploy("discover")) == ["discover"]
    assert checkout.state(f"objects/{context}").exists()


def test_a_context_is_not_read_again_when_nothing_changed(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout.deploy("discover") == {}

    def read(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(digest, "of_file", read)
    assert checkout.deploy("discover") == {}


# --- the code itself


CODE = """
    import flyte

    import helper

    base = flyte.Image.from_base("python:3.12").clone(name="job", extendable=True)
    env = flyte.TaskEnvironment(name="env", image=base.with_code_bundle("{style}", dst="/code"))


    @env.task
    async def task(amount: int) -> int:
        return helper.A
"""


def with_code(folder: Path, style: str, *, keys: str = "") -> Checkout:
    return Checkout(
        folder,
        {
            "deploy.toml": f'[targets.job]\npath = "job.py"\nall = true\n{keys}\n',
            "job.py": CODE.replace("{style}", style),
            "helper.py": "A = 1\n",
            "notes.txt": "a\n",
            ".gitignore": "*.log\n",
            "x.log": "x\n",
        },
    )


def members(checkout: Checkout) -> list[str]:
    import tarfile

    build = builds(checkout)["env"]
    with tarfile.open(checkout.state(f"objects/{build.context}")) as tar:
        return [member.name for member in tar if member.isfile()]


NONE = 'copy_style = "none"\nversion = "v1"'


def test_code_goes_into_a_bundle_where_there_is_one(tmp_path: Path) -> None:
    checkout = with_code(tmp_path, "all")
    checkout.deploy("discover")
    assert builds(checkout)["env"].context == ""


def test_code_goes_into_the_image_where_there_is_no_bundle(tmp_path: Path) -> None:
    checkout = with_code(tmp_path, "loaded_modules", keys=NONE)
    checkout.deploy("discover")
    assert members(checkout) == ["layer1/helper.py", "layer1/job.py"]
    before = builds(checkout)
    checkout.write("helper.py", "A = 2\n")
    checkout.deploy("discover")
    assert changed(checkout, before) == {"env"}


def test_all_code_is_what_a_bundle_of_all_would_hold(tmp_path: Path) -> None:
    checkout = with_code(tmp_path, "all", keys=f'{NONE}\nexclude = ["notes.txt"]')
    checkout.deploy("discover")
    assert members(checkout) == [
        "layer1/.gitignore",
        "layer1/deploy.toml",
        "layer1/helper.py",
        "layer1/job.py",
    ]
    checkout.write(".gitignore", "")
    assert checkout.deploy("discover") == {"discover": ".gitignore changed"}
    assert "layer1/x.log" in members(checkout)


def test_files_that_a_bundle_includes_do_not_stand_for_the_code(tmp_path: Path) -> None:
    checkout = with_code(tmp_path, "loaded_modules", keys=f'{NONE}\ninclude = ["notes.txt"]')
    checkout.deploy("discover")
    assert members(checkout) == ["layer1/helper.py", "layer1/job.py"]


def test_a_plan_that_failed_is_made_when_what_was_missing_is_there(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, {name: text for name, text in FILES.items() if name != "requirements.txt"})
    with pytest.raises(ImageFileMissing, match=r"needs the file `requirements.txt`"):
        checkout.deploy("discover")
    checkout.write("requirements.txt", "httpx\n")
    checkout.deploy("discover")
    assert builds(checkout)["env"].context_files == 5


def test_a_build_is_data(checkout: Checkout) -> None:
    build = builds(checkout)["env"]
    assert msgspec.json.decode(build.json(), type=ImageBuild) == build
