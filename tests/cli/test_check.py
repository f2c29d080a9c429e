"""`doit check`: what a target declares must not depend on the hash seed, the folder, or the order of files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from textwrap import dedent

import pytest

from tests.namespaces import with_small_disk
from tests.repository import WORKFLOW, Repository, environment, failures, small

OTHERWISE = "from a copy elsewhere, with another hash seed, and files and folders in another order"
HEAD = (
    f"[targets.fraud]: loaded again {OTHERWISE}, the code declares something else; "
    "sort what has no order, and use nothing of the machine, the time or the place\n"
)


def seen(folder: Path, head: str) -> Repository:
    """A target whose environment has the variable SEEN, made by the head of the file."""
    text = dedent(WORKFLOW).replace('name="fraud"', 'name="fraud", env_vars={"SEEN": str(SEEN)}')
    return small(folder, fraud_py=f"{dedent(head).strip()}\n{text}")


def difference(values: str, line: int = 9) -> str:
    return f"{HEAD}fraud.py:{line}: task `fraud.score`: task_template.container.env[0].value: {values}"


def test_code_that_depends_on_its_files_alone_passes(repository: Repository) -> None:
    ran = repository.doit("check")
    assert (ran.code, ran.out, ran.err) == (0, "fraud: declares the same, loaded twice\n", "")
    assert not (repository.folder / ".flyte-build" / "targets").exists()


@pytest.mark.error("NotDeterministic")
def test_the_order_of_a_set_is_named(tmp_path: Path) -> None:
    ran = seen(tmp_path, "SEEN = '-'.join({'one', 'two', 'three', 'four', 'five'})").doit("check")
    assert ran.code == 1
    assert failures(ran)["check:fraud"].startswith(difference("'"))
    assert ran.out == ""


def test_the_order_of_a_folder_is_named(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
    repository = seen(tmp_path, "import glob\nSEEN = '-'.join(glob.glob('*', root_dir='data'))")
    said = failures(repository.doit("check"))["check:fraud"]
    assert said in (difference("'a-b' -> 'b-a'", 10), difference("'b-a' -> 'a-b'", 10))
    repository.write(
        "fraud.py", repository.read("fraud.py").replace("join(glob", "join(sorted(glob").replace("'))", "')))")
    )
    assert repository.doit("check").code == 0


@pytest.mark.parametrize("listed", ["glob('*')", "iterdir()"])
def test_the_order_in_which_pathlib_lists_is_named(listed: str, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
    head = f"from pathlib import Path\nSEEN = '-'.join(each.name for each in Path('data').{listed})"
    said = failures(seen(tmp_path, head).doit("check"))["check:fraud"]
    assert said in (difference("'a-b' -> 'b-a'", 10), difference("'b-a' -> 'a-b'", 10))


def test_the_folder_of_the_checkout_is_named(tmp_path: Path) -> None:
    said = failures(seen(tmp_path, "SEEN = __file__").doit("check"))["check:fraud"]
    assert said.startswith(difference(f"'{tmp_path}/fraud.py'"[:57]))


def test_a_random_number_is_named(tmp_path: Path) -> None:
    assert failures(seen(tmp_path, "import uuid\nSEEN = uuid.uuid4()").doit("check"))["check:fraud"].startswith(
        difference("'", 10)
    )


def test_what_was_imported_before_is_named(tmp_path: Path) -> None:
    """Files that share something are told apart by which was there first."""
    body = environment("NAME").replace("TaskEnvironment(", "TaskEnvironment(env_vars={'AT': str(count.next())}, ")
    repository = Repository(
        tmp_path,
        {
            "deploy.toml": '[targets.fraud]\npath = "src"\nrecursive = true\nroot_dir = "src"\n',
            "src/count.py": "import functools\nimport itertools\nnext = functools.partial(next, itertools.count())\n",
            **{f"src/{name}.py": f"import count\n{body.replace('NAME', name)}" for name in ("a", "b")},
        },
    )
    assert failures(repository.doit("check"))["check:fraud"] == (
        f"{HEAD}src/a.py:9: task `a.a_task`: task_template.container.env[0].value: '0' -> '1'\n"
        "src/b.py:9: task `b.b_task`: task_template.container.env[0].value: '1' -> '0'"
    )


def test_environments_and_modules_that_come_and_go_are_named(tmp_path: Path) -> None:
    head = "import os\nif 'another' in os.getcwd():\n    import extra\nelse:\n    import usual\n"
    repository = Repository(
        tmp_path,
        {
            "deploy.toml": '[targets.fraud]\npath = "fraud.py"\nall = true\n',
            "fraud.py": head + environment("fraud"),
            "extra.py": environment("extra"),
            "usual.py": environment("usual"),
        },
    )
    assert failures(repository.doit("check"))["check:fraud"] == (
        f"{HEAD}usual.py: environment `usual`: declared the first time only\n"
        "extra.py: environment `extra`: declared the second time only\n"
        "extra.py: imported the second time only\n"
        "usual.py: imported the first time only"
    )


def test_images_and_dependencies_that_differ_are_named(tmp_path: Path) -> None:
    head = "import os\nimport flyte\nWHERE = 'b' if 'another' in os.getcwd() else 'a'\n"
    repository = Repository(
        tmp_path,
        {
            "deploy.toml": '[targets.fraud]\npath = "fraud.py"\nall = true\n',
            "fraud.py": head + environment("fraud", ", image=flyte.Image.from_base(f'image:{WHERE}')"),
        },
    )
    said = failures(repository.doit("check"))["check:fraud"]
    assert "\nfraud.py: environment `fraud`: image.uri: 'image:a' -> 'image:b'" in said


@pytest.mark.error("LoadsHereOnly", "LoadsElsewhereOnly")
@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("raise ValueError('no')", "fraud.py:1: loading failed: ValueError: no; mend the code"),
        (
            "import os\nif 'another' in os.getcwd(): raise ValueError(os.getcwd())\nSEEN = 1",
            f"[targets.fraud]: loads here, and not {OTHERWISE}; let it depend on files of the repository alone\n"
            "fraud.py:2: loading failed: ValueError: COPY; mend the code",
        ),
        (
            "import os\nif 'another' not in os.getcwd(): raise ValueError('no')\nSEEN = 1",
            f"[targets.fraud]: loads {OTHERWISE}, and not here; let it not depend on the order of files\n"
            "fraud.py:2: loading failed: ValueError: no; mend the code",
        ),
    ],
    ids=["nowhere", "here only", "there only"],
)
def test_code_that_loads_in_one_way_only_is_told(head: str, message: str, tmp_path: Path) -> None:
    ran = seen(tmp_path, head).doit("check")
    assert ran.code == 1
    assert failures(ran)["check:fraud"].partition("\nTraceback")[0] == message


def test_one_target_is_checked_by_its_name_and_told_in_json(repository: Repository) -> None:
    ran = repository.doit("check:fraud", "output=jsonl")
    assert ran.events == [{"event": "check", "status": "same", "target": "fraud"}]
    assert repository.doit("check:other").code == 3


# --- the copies


def several(folder: Path, head: str, count: int = 6) -> Repository:
    """Targets whose files begin with the same code, and what is temporary in a folder of its own."""
    names = [f"target{number}" for number in range(count)]
    tables = [f'[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\n' for name in names]
    files = {f"{name}.py": f"{dedent(head)}\n{environment(name)}" for name in names}
    repository = Repository(folder / "repository", {"deploy.toml": "".join(tables), **files})
    (folder / "tmp").mkdir()
    repository.environ["TMPDIR"] = str(folder / "tmp")
    return repository


def test_there_are_no_more_copies_than_cores_and_nothing_is_left(tmp_path: Path) -> None:
    places = tmp_path / "places"
    repository = several(tmp_path, f"import os\nprint(os.getcwd(), file=open('{places}', 'a'))")
    ran = repository.doit("check")
    assert ran.code == 0, ran.err
    lines = [line for line in places.read_text().splitlines() if line != str(repository.folder)]
    assert len(lines) == 6
    assert len(set(lines)) <= len(os.sched_getaffinity(0))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_load_writes_into_its_copy_is_seen_by_no_other(tmp_path: Path) -> None:
    repository = several(
        tmp_path,
        """
        import os
        assert not os.path.exists("written")
        if "another/place" in os.getcwd():
            open("written", "w").close()
        """,
    )
    ran = repository.doit("-n", "0", "check")
    assert ran.code == 0, ran.err


def test_what_images_are_built_from_is_not_kept(tmp_path: Path) -> None:
    repository = several(tmp_path, "", count=1)
    repository.write("data/file.txt", "data\n")
    image = 'image=flyte.Image.from_debian_base(registry="localhost:1", name="x").with_source_folder(Path("data"))'
    repository.write("target0.py", "from pathlib import Path\n" + environment("target0", f", {image}"))
    ran = repository.doit("check")
    assert ran.code == 0, ran.err
    assert not (repository.folder / ".flyte-build/objects").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.error("CopyNotMade")
def test_a_disk_that_is_too_small_for_a_copy_is_told(tmp_path: Path) -> None:
    repository = several(tmp_path, "", count=2)
    repository.write("big.bin", "x" * 3_000_000)
    small_disk = with_small_disk(str(tmp_path / "tmp"), "size=2m")
    ran = repository.doit("check", under=small_disk)
    message = (
        f"{repository.folder}/big.bin: cannot be copied to {tmp_path}/tmp: No space left on device; "
        "free some space, set TMPDIR to another folder, or make the file readable"
    )
    assert ran.code == 1
    assert failures(ran) == {"check:target0": message, "check:target1": message}


def test_ctrl_c_leaves_no_copy(tmp_path: Path) -> None:
    waiting = tmp_path / "waiting"
    repository = several(
        tmp_path,
        f"""
        import os, time
        if "another/place" in os.getcwd():
            open("{waiting}", "w").close()
            time.sleep(60)
        """,
        count=1,
    )
    process = repository.start("check")
    while not waiting.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    assert list((tmp_path / "tmp").iterdir()) == []
