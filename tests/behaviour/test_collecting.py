"""The state folder holds what receipts name, and no more: after each run that did something, and after `doit clean`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flyte_build.state import digest, garbage, receipts
from flyte_build.state.folder import StateFolder
from flyte_build.state.lock import StateLock
from flyte_build.state.receipts import Receipt
from tests import killing
from tests.repository import Ran, Repository, environment, failures
from tests.unprivileged import bound

NAMES = ("a", "b")
TARGET = '[targets.{name}]\npath = "{name}.py"\nenvironment = "env"\n'
STRAY = "f" * 32


def manifest(*names: str) -> str:
    return "".join(TARGET.format(name=name) for name in names)


def code(name: str, content: str = "first") -> str:
    return f"import shared\n{environment(name)}# {content}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two targets that share a module, deployed."""
    made = written(tmp_path)
    ran(made)
    return made


def written(folder: Path) -> Repository:
    files = {"deploy.toml": manifest(*NAMES), "shared.py": "", **{f"{name}.py": code(name) for name in NAMES}}
    return Repository(folder, files)


def ran(repository: Repository, *words: str, under: tuple[str, ...] = ()) -> Ran:
    done = repository.doit(*words, under=under)
    assert done.code == 0, done.err
    return done


def steps(repository: Repository, *words: str) -> list[str]:
    """Deploy; the steps that ran."""
    events = ran(repository, *words, "output=jsonl").events
    return [f"{e['step']}:{e['target']}" for e in events if e["event"] == "finished" and e["status"] == "done"]


def state(repository: Repository) -> Path:
    return repository.folder / ".flyte-build"


def kept(repository: Repository) -> set[str]:
    """Paths below the state folder of what is named by its content."""
    folders = ("objects", "bundles", "installed")
    return {f"{folder}/{path.name}" for folder in folders for path in (state(repository) / folder).glob("*")}


def named(repository: Repository) -> set[str]:
    """What receipts, also those set aside, name of that; each is what they say."""
    found: set[str] = set()
    for path in (state(repository) / "targets").glob("*/*"):
        receipt = receipts.load(path)
        if path.suffix in (".json", ".before") and isinstance(receipt, Receipt):
            found |= {each for each in receipt.outputs if not each.startswith("/")}
            for each, content in receipt.outputs.items():
                assert digest.of_file(state(repository) / each) == content, (path, each)
            if path.stem == "discover":
                found.add(f"installed/{msgspec.json.decode(receipt.key)['installed_distributions']}.json")
    return found


def stray(repository: Repository, name: str = f"objects/{STRAY}") -> Path:
    """A file that nothing names."""
    return repository.write(f".flyte-build/{name}", "stray")


# --- deploying


def test_edits_leave_nothing_of_earlier_versions_behind(repository: Repository) -> None:
    many = len(kept(repository))
    for content in ("second", "third", "fourth"):
        repository.write("a.py", code("a", content))
        assert "bundle:a" in steps(repository)
        assert kept(repository) == named(repository)
        assert len(kept(repository)) == many


def test_what_was_deployed_stays_in_the_store_of_the_embedded_control_plane(repository: Repository) -> None:
    before = {path.name for path in (state(repository) / "store").iterdir()}
    repository.write("shared.py", "SECOND = 2\n")
    ran(repository)
    assert before < {path.name for path in (state(repository) / "store").iterdir()}


def test_going_back_gives_what_it_gave(repository: Repository) -> None:
    before = kept(repository)
    repository.write("shared.py", "SECOND = 2\n")
    ran(repository)
    assert not before & {path for path in kept(repository) if path.startswith("bundles/")}
    repository.write("shared.py", "")
    ran(repository)
    assert kept(repository) == before


def test_a_run_with_nothing_to_do_looks_for_nothing(repository: Repository) -> None:
    left = stray(repository)
    repository.write(
        "dodo.py",
        """
        import sys
        from flyte_build.dodo import *

        def heard(event, args):
            if event in ("os.listdir", "os.scandir") and "/.flyte-build/" in str(args[0]):
                sys.__stderr__.write(f"listed {args[0]}\\n")

        sys.addaudithook(heard)
        """,
    )
    assert "listed" not in ran(repository).err
    assert left.exists()
    repository.write("a.py", code("a", "second"))
    assert f"listed {state(repository)}/objects\n" in ran(repository).err
    assert not left.exists()


def test_a_run_in_which_only_tasks_of_the_users_did_something_looks_for_nothing(repository: Repository) -> None:
    left = stray(repository)
    repository.write("dodo.py", "from flyte_build.dodo import *\ndef task_z():\n    return {'actions': ['true']}\n")
    ran(repository, "z", "deploy")
    ran(repository, "plan")
    assert left.exists()


def test_a_file_among_the_folders_of_targets_is_in_nobodys_way(repository: Repository) -> None:
    left, strange = stray(repository), repository.write(".flyte-build/targets/.DS_Store", "")
    repository.write("a.py", code("a", "second"))
    ran(repository)
    assert not left.exists()
    assert ran(repository, "clean").out.startswith("removed ")
    assert strange.exists()


@pytest.mark.parametrize("words", [("-n", "0"), ("-n", "2"), ("-n", "2", "-P", "process")])
def test_however_steps_are_run_nothing_is_left_behind(words: tuple[str, ...], repository: Repository) -> None:
    left = stray(repository)
    repository.write("shared.py", "SECOND = 2\n")
    ran(repository, *words, "deploy")
    assert not left.exists()
    assert kept(repository) == named(repository)


def test_a_deploy_from_python_leaves_nothing_behind_either(repository: Repository) -> None:
    call = '\nif __name__ == "__main__":\n    import flyte_build\n    flyte_build.deploy(env)\n'
    for content in ("first", "second"):
        repository.write("own.py", environment("own") + call + f"# {content}\n")
        left = stray(repository)
        assert repository.python("own.py").code == 0
        assert not left.exists()
        assert kept(repository) == named(repository)
    assert repository.python("own.py").code == 0
    assert steps(repository) == []


def test_a_plan_collects_only_when_it_has_loaded_anew(repository: Repository) -> None:
    left = stray(repository)
    ran(repository, "plan")
    assert left.exists()
    repository.write("a.py", code("a", "second"))
    ran(repository, "plan")
    assert not left.exists()
    assert kept(repository) == named(repository)


def test_what_another_way_of_deploying_names_stays(repository: Repository) -> None:
    repository.write("a.py", code("a", "second"))
    ran(repository, "project=other")
    assert kept(repository) == named(repository)
    assert steps(repository, "project=other") == []


def test_targets_that_are_not_selected_or_not_in_the_manifest_keep_what_they_have(repository: Repository) -> None:
    repository.write("deploy.toml", manifest("a"))
    repository.write("a.py", code("a", "second"))
    ran(repository)
    repository.write("a.py", code("a", "third"))
    repository.write("deploy.toml", manifest(*NAMES))
    ran(repository, "deploy:a")
    assert steps(repository) == []


def test_the_index_forgets_what_is_gone(repository: Repository) -> None:
    for path in kept(repository):
        os.utime(state(repository) / path, (1, 1))
    index = state(repository) / "files.json"
    repository.write("shared.py", "SECOND = 2\n")
    ran(repository)
    remembered = set(re.findall(r'\.flyte-build/((?:objects|bundles)/[^"]+)"', index.read_text()))
    assert remembered <= kept(repository)


def test_logs_and_locks_of_images_go_unless_they_tell_of_what_was_built_here(repository: Repository) -> None:
    names = [f"images/{letter * 32}.{ending}" for letter in "ab" for ending in ("log", "lock")]
    left = [stray(repository, name) for name in (*names, f"images/{'b' * 32}.built")]
    repository.write("a.py", code("a", "second"))
    ran(repository)
    assert [path.exists() for path in left] == [False, False, True, True, True]


# --- when something fails


def test_a_target_that_fails_keeps_what_tells_why(repository: Repository) -> None:
    repository.write("shared.py", "1 / 0\n")
    repository.write("b.py", environment("b"))
    assert set(failures(repository.doit())) == {"discover:a"}
    assert kept(repository) == named(repository)
    told = ran(repository, "why", "discover:a").out
    assert "runs: shared.py changed" in told
    assert "a.py -> shared.py" in told


@pytest.mark.parametrize("content", ["{}", '{"seal": "", "receipt": {}}', ""])
def test_a_damaged_receipt_names_nothing_and_its_step_is_done_again(content: str, repository: Repository) -> None:
    (state(repository) / "targets/b/bundle.json").write_text(content)
    repository.write("a.py", code("a", "second"))
    ran(repository, "deploy:a")
    assert kept(repository) == named(repository)
    assert steps(repository) == ["bundle:b"]


def test_where_a_receipt_cannot_be_read_nothing_is_removed(repository: Repository) -> None:
    left, receipt = stray(repository), state(repository) / "targets/b/bundle.json"
    receipt.chmod(0)
    repository.write("a.py", code("a", "second"))
    ran(repository, "deploy:a", under=bound())
    assert left.exists()
    receipt.chmod(0o644)
    assert steps(repository) == []


def test_what_may_not_be_removed_stays_and_fails_nothing(repository: Repository) -> None:
    left = stray(repository, f"installed/{STRAY}.json")
    left.parent.chmod(0o555)
    folder = state(repository) / f"objects/{STRAY}"
    folder.mkdir()
    repository.write("a.py", code("a", "second"))
    ended = ran(repository, under=bound())
    assert "cannot" not in ended.err
    assert (left.exists(), folder.is_dir()) == (True, True)
    left.parent.chmod(0o755)
    repository.write("a.py", code("a", "third"))
    ran(repository)
    assert not left.exists()


def test_a_file_that_somebody_else_just_removed_is_none_that_was_removed(repository: Repository) -> None:
    left, other = stray(repository), stray(repository, f"objects/{'e' * 32}")
    found = garbage.unnamed(StateFolder(state(repository)))
    assert found == [str(other), str(left)]
    other.unlink()
    assert garbage.remove(found) == garbage.Removed((str(left),), len("stray"))


def test_what_is_no_file_of_ours_stays(repository: Repository) -> None:
    names = ("objects/notes.txt", "objects/.gitkeep", f"bundles/{STRAY}", f"installed/{STRAY}", "targets/a/notes")
    others = [stray(repository, name) for name in (*names, f"backend/{STRAY}", f"store/{STRAY}.tar.gz", STRAY)]
    torn = [stray(repository, name) for name in ("objects/.part.a1b2c3d_", "targets/a/.bundle.json.abcdefgh")]
    repository.write("a.py", code("a", "second"))
    ran(repository)
    assert all(path.exists() for path in others)
    assert not any(path.exists() for path in torn)


def test_who_shares_the_folder_with_a_thread_at_work_removes_nothing(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "lock")
    seen = []
    for _ in range(2):
        lock.acquire(wait=False, waiting=lambda _: None)
        with lock.alone() as alone:
            seen.append(alone)
    lock.release()
    with lock.alone() as alone:
        seen.append(alone)
    lock.release()
    with lock.alone() as alone:
        seen.append(alone)
    assert seen == [True, False, True, False]


def killed(repository: Repository, log: Path, at: str) -> list[str]:
    """Deploy, killed before a line of the package is first run; the lines that were."""
    commands = json.dumps({"log": str(log), "at": at})
    ended = repository.run(sys.executable, killing.__file__, commands, "-n", "0", "deploy")
    assert ended.code == (-signal.SIGKILL if at else 0)
    return log.read_text().splitlines()


def test_killed_while_it_collects_a_deploy_has_lost_nothing(repository: Repository, tmp_path: Path) -> None:
    log = tmp_path / "log"
    repository.write("a.py", code("a", "first killed"))
    lines = [line for line in killed(repository, log, "") if line.startswith("state/garbage.py")]
    assert len(lines) > 10
    left = 0
    for line in (lines[0], lines[len(lines) // 2], *lines[-3:]):
        repository.write("a.py", code("a", line))
        stray(repository)
        killed(repository, log, line)
        left += kept(repository) > named(repository)
        assert named(repository) <= kept(repository)
        assert steps(repository) == []
    assert left, "none was killed in the midst"
    repository.write("a.py", code("a", "last"))
    ran(repository)
    assert kept(repository) == named(repository)


# --- cleaning


def test_clean_leaves_nothing_that_only_the_cleaned_targets_named(repository: Repository) -> None:
    repository.write("deploy.toml", manifest(*NAMES) + TARGET.format(name="twin").replace("twin.py", "a.py"))
    ran(repository)
    stray(repository)
    asked = ran(repository, "clean", "-n", "-c", "deploy:a").out
    cleaned = ran(repository, "clean", "-c", "deploy:a").out
    assert re.fullmatch(r"removed (\d+) files, [\d,]+ bytes\n", cleaned)
    assert asked == cleaned.replace("removed", "would remove")
    assert kept(repository) == named(repository)
    assert {step.partition(":")[2] for step in steps(repository)} == {"a"}


def test_clean_of_everything_takes_what_the_manifest_has_no_longer_too(repository: Repository) -> None:
    repository.write("deploy.toml", manifest("a"))
    assert ran(repository, "clean", "deploy:a").out.startswith("removed ")
    assert (state(repository) / "targets/b/discover.json").exists()
    store = sorted(path.name for path in (state(repository) / "store").iterdir())
    asked = ran(repository, "clean", "-n").out
    cleaned = ran(repository, "clean").out
    assert asked == cleaned.replace("removed", "would remove")
    assert kept(repository) == set()
    assert [path.name for path in (state(repository) / "targets").iterdir()] == ["a"]
    assert sorted(path.name for path in (state(repository) / "store").iterdir()) == store
    assert ran(repository, "clean").out == "nothing to remove\n"


def test_clean_of_one_step_leaves_what_others_name(repository: Repository) -> None:
    before = kept(repository)
    assert re.fullmatch(r"removed 1 file, [\d,]+ bytes\n", ran(repository, "clean", "upload:a").out)
    assert kept(repository) == before
    assert steps(repository) == ["upload:a"]


def test_what_a_task_of_the_user_has_to_clean_is_told_by_doit(repository: Repository) -> None:
    task = "def task_z():\n    return {'actions': [], 'clean': ['echo mine'], 'task_dep': ['deploy:a']}\n"
    repository.write("dodo.py", f"{repository.read('dodo.py')}\n{task}")
    assert ran(repository, "clean", "z").out.splitlines() == ["z - executing 'Cmd: echo mine'", "mine"]


def test_a_clean_that_may_not_remove_a_receipt_is_told_and_leaves_what_receipts_name(repository: Repository) -> None:
    before, folder = kept(repository), state(repository) / "targets/a"
    folder.chmod(0o555)
    cleaned = repository.doit("clean", "-c", "deploy:a", under=bound())
    folder.chmod(0o755)
    assert (cleaned.code, cleaned.out) == (1, "")
    assert cleaned.err.startswith(f"ERROR: {folder}/deploy.json: cannot be written: Permission denied")
    assert kept(repository) == before


# --- the law

ACTIONS = {
    **{f"{name} = {text}": (name, text) for name in (*NAMES, "shared") for text in ("first", "second", "1 / 0")},
    **{f"only {name}": ("deploy.toml", manifest(name)) for name in NAMES},
    "both": ("deploy.toml", manifest(*NAMES)),
}
"""What is written before a command."""
COMMANDS = (
    "deploy",
    "deploy:a",
    "deploy project=other",
    "plan",
    "-n 2 -P process deploy",
    "clean -c deploy:a",
    "clean",
)
stories = st.lists(
    st.tuples(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=2), st.sampled_from(COMMANDS)), min_size=3, max_size=4
)
Story = list[tuple[list[str], str]]


def check(story: Story) -> None:
    with TemporaryDirectory() as folder:
        repository = written(Path(folder) / "repo")
        for edits, command in [([], "deploy"), *story]:
            for edit in edits:
                name, text = ACTIONS[edit]
                write(repository, name, text)
            left = stray(repository)
            done = repository.doit(*command.split())
            unknown = ":a" in command and "[targets.a]" not in repository.read("deploy.toml")
            assert done.code in ((3,) if unknown else (0, 1)), done.err
            worked = not left.exists()
            left.unlink(missing_ok=True)
            assert named(repository) <= kept(repository)
            assert kept(repository) <= named(repository) or not worked
        for name, text in (("deploy.toml", manifest(*NAMES)), *((name, "last") for name in (*NAMES, "shared"))):
            write(repository, name, text)
        ran(repository)
        assert kept(repository) == named(repository)
        assert steps(repository) == []


def write(repository: Repository, name: str, text: str) -> None:
    if name in NAMES:
        repository.write(f"{name}.py", code(name, text) if "/" not in text else text)
    elif name == "shared":
        repository.write("shared.py", f"# {text}\n" if "/" not in text else text)
    else:
        repository.write(name, text)


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(stories)
def test_after_any_edits_and_commands_what_receipts_name_is_there_and_nothing_else(story: Story) -> None:
    check(story)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(stories)
def test_after_many_more_edits_and_commands_too(story: Story) -> None:
    check(story)
