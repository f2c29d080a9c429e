"""`doit why`: what it says of each step, to the letter, and that it only looks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from flyte_build.state import digest
from flyte_build.state.trace import variable_digest
from flyte_build.steps import discover
from flyte_build.why import needed
from tests.repository import MANIFEST, SCRIPTS, Ran, Repository, environment, failures, small

STEPS = ("discover", "bundle", "images", "upload", "serialize", "deploy")
FILES = {
    "deploy.toml": f"""
        {MANIFEST.strip()}
        pass_env = ["STAGE"]

        [images.refs]
        base = "image:1"
        """.replace("    path", "path"),
    "fraud.py": """
        import colorsys
        import os

        import flyte

        from shared import rules

        env = flyte.TaskEnvironment(name="fraud", env_vars={"STAGE": os.environ.get("STAGE", ""), "R": rules.RATES})


        @env.task
        async def score(amount: int) -> int:
            from shared.lazy import weight

            return rules.apply(amount) * weight()
        """,
    "shared/__init__.py": "",
    "shared/rules.py": """
        from pathlib import Path

        from shared.limits import LIMIT

        RATES = Path("rates.csv").read_text()


        def apply(amount: int) -> int:
            return min(amount, LIMIT)
        """,
    "shared/limits.py": "LIMIT = 1\n",
    "shared/lazy.py": "from shared.deep import weight\n",
    "shared/deep.py": "def weight():\n    return 1\n",
    "rates.csv": "a,1\n",
    "venv/site-packages/other-1.0.dist-info/RECORD": "other.py,,\n",
}
WAITS = {
    "bundle": ("discover",),
    "images": ("discover",),
    "upload": ("bundle",),
    "serialize": ("discover", "images", "upload"),
    "deploy": ("serialize",),
}


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Everything is up to date, in a git checkout."""
    folder = tmp_path_factory.mktemp("deployed")
    repository = Repository(folder, FILES)
    repository.write(".gitignore", ".home/\nvenv/\n.flyte-build/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    assert asked(repository, "deploy").code == 0
    return repository


@pytest.fixture
def fraud(deployed: Repository) -> Iterator[Repository]:
    """The same, to be edited: it is put back afterwards. The state stays as it is: `doit why` only looks."""
    yield deployed
    git(deployed.folder, "reset", "-q", "--hard")
    git(deployed.folder, "clean", "-q", "-f", "-d")
    deployed.write("venv/site-packages/other-1.0.dist-info/RECORD", "other.py,,\n")


def asked(repository: Repository, *words: str, stage: str = "dev") -> Ran:
    repository.environ = {"STAGE": stage, "PYTHONPATH": str(repository.folder / "venv/site-packages")}
    return repository.doit(*words)


def why(repository: Repository, *words: str, stage: str = "dev") -> str:
    """What it says, without times."""
    ran = asked(repository, "why", *words, stage=stage)
    assert (ran.code, ran.err) == (0, "")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", ran.out)


def short(text: str) -> str:
    return digest.of_bytes(text.encode())[:12]


def expected(repository: Repository, step: str = "deploy", /, **stale: list[str]) -> str:
    """The whole answer: `stale` has the lines of the steps that run, and the others equal their receipts."""
    commit = git(repository.folder, "rev-parse", "HEAD")[:12]
    equals = f"equals the receipt of TIME, commit {commit}, on {os.uname().nodename}"
    lines = ["fraud"]
    unsure = set(stale)
    for each in needed(step):
        waits = [need for need in WAITS.get(each, ()) if need in unsure]
        said = stale.get(each, [f"fresh unless {' or '.join(waits)} gives another result", equals])
        if each not in stale and not waits:
            said = [f"fresh: {equals}"]
        elif each not in stale:
            unsure.add(each)
        lines += [f"  {each:<10}{said[0]}", *(f"            {line}" for line in said[1:])]
    return "\n".join(lines) + "\n"


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# --- what it says


def test_what_is_up_to_date_equals_a_receipt_with_its_time_commit_and_machine(fraud: Repository) -> None:
    assert why(fraud, "deploy:fraud") == expected(fraud)
    assert why(fraud) == expected(fraud)


def test_a_changed_file_is_told_with_the_imports_that_lead_to_it(fraud: Repository) -> None:
    fraud.write("shared/limits.py", "LIMIT = 2\n")
    before, after = short("LIMIT = 1\n"), short("LIMIT = 2\n")
    chain = "fraud.py -> shared/rules.py -> shared/limits.py"
    assert why(fraud, "deploy:fraud") == expected(
        fraud,
        discover=["runs: shared/limits.py changed", chain, f"was {before}, is {after}"],
        bundle=["runs: shared/limits.py changed", chain, f"was {before}:-, is {after}:-"],
    )


def test_a_file_that_data_is_read_from_is_told_with_the_module_that_reads_it(fraud: Repository) -> None:
    fraud.write("rates.csv", "a,2\n")
    chain = "fraud.py -> shared/rules.py -> rates.csv"
    assert why(fraud, "deploy:fraud") == expected(
        fraud, discover=["runs: rates.csv changed", chain, f"was {short('a,1' + chr(10))}, is {short('a,2' + chr(10))}"]
    )


def test_an_import_inside_a_function_is_part_of_the_way(fraud: Repository) -> None:
    fraud.write("shared/deep.py", "weight = 1\n")
    before, after = short(FILES["shared/deep.py"]), short("weight = 1\n")
    chain = "fraud.py -> shared/lazy.py -> shared/deep.py"
    assert why(fraud, "deploy:fraud") == expected(
        fraud, bundle=["runs: shared/deep.py changed", chain, f"was {before}:-, is {after}:-"]
    )


def test_a_deleted_file_is_gone(fraud: Repository) -> None:
    (fraud.folder / "shared/limits.py").unlink()
    chain = "fraud.py -> shared/rules.py -> shared/limits.py"
    before = short("LIMIT = 1\n")
    assert why(fraud, "deploy:fraud") == expected(
        fraud,
        discover=["runs: shared/limits.py is gone", chain, f"was {before}, is nothing"],
        bundle=["runs: shared/limits.py is gone", chain, f"was {before}:-, is nothing"],
    )


def test_a_file_that_shadows_a_module_is_told_with_the_file_that_imports_that(fraud: Repository) -> None:
    fraud.write("colorsys.py", "")
    chain = "fraud.py -> colorsys.py"
    assert why(fraud, "deploy:fraud") == expected(
        fraud,
        discover=["runs: import of `colorsys` finds another file in .", chain, "was nothing, is module"],
        bundle=["runs: colorsys.py is now file", chain, "was nothing, is file"],
    )


def test_a_variable_is_told_by_its_digest_and_never_by_its_value(fraud: Repository) -> None:
    before, after = (variable_digest("STAGE", value)[:12] for value in ("dev", "s3cret"))
    said = why(fraud, "deploy:fraud", stage="s3cret")
    assert said == expected(
        fraud,
        discover=["runs: environment variable `STAGE` changed", "fraud.py -> $STAGE", f"was {before}, is {after}"],
    )
    as_data = asked(fraud, "why", "deploy:fraud", "output=jsonl", stage="s3cret")
    assert "s3cret" not in said + as_data.out


@pytest.mark.parametrize(
    ("old", "new", "step", "reason", "before", "after"),
    [
        (
            "[images.refs]",
            '[flyte]\nproject = "risk"\n[images.refs]',
            "serialize",
            "`project` in [flyte]",
            "flytesnacks",
            "risk",
        ),
        ("image:1", "image:2", "images", "`refs.base` in [images]", "image:1", "image:2"),
    ],
)
def test_a_setting_is_told_by_its_name_and_digests(
    fraud: Repository, old: str, new: str, step: str, reason: str, before: str, after: str
) -> None:
    fraud.write("deploy.toml", fraud.read("deploy.toml").replace(old, new))
    digests = f"was {short(f'{chr(34)}{before}{chr(34)}')}, is {short(f'{chr(34)}{after}{chr(34)}')}"
    assert why(fraud, "deploy:fraud") == expected(fraud, **{step: [f"runs: {reason} changed", digests]})


def test_a_package_of_another_version_is_named(fraud: Repository) -> None:
    installed = fraud.folder / "venv/site-packages"
    (installed / "other-1.0.dist-info").rename(installed / "other-1.1.dist-info")
    try:
        said = why(fraud, "deploy:fraud")
    finally:
        (installed / "other-1.1.dist-info").rename(installed / "other-1.0.dist-info")
    assert said == expected(
        fraud, discover=["runs: installed distributions changed: other 1.0 -> 1.1", "was 1.0, is 1.1"]
    )


def test_another_version_of_the_sdk_is_named(fraud: Repository) -> None:
    now = metadata.version("flyte")
    record = fraud.write("venv/site-packages/flyte-99.0.dist-info/RECORD", "")
    try:
        said = why(fraud, "discover:fraud")
    finally:
        shutil.rmtree(record.parent)
    reason = f"runs: installed distributions changed: flyte {now} -> 99.0"
    assert said == expected(fraud, "discover", discover=[reason, f"was {now}, is 99.0"])


def test_an_executable_bit_is_told_with_the_imports_that_lead_to_the_file(fraud: Repository) -> None:
    (fraud.folder / "shared/limits.py").chmod(0o755)
    content = short("LIMIT = 1\n")
    chain = "fraud.py -> shared/rules.py -> shared/limits.py"
    reason = "runs: shared/limits.py changed its executable bit"
    assert why(fraud, "deploy:fraud") == expected(fraud, bundle=[reason, chain, f"was {content}:-, is {content}:x"])


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ('copy_style = "all"', "`copy_style` in [targets.fraud] changed"),
        ('version = "v1"', "`version` in [targets.fraud] changed"),
        ('version = "{content}-{env:STAGE}"', "`version` in [targets.fraud] changed, or what fills it"),
        ('exclude = ["x"]', "`exclude` in [targets.fraud] changed"),
    ],
)
def test_a_key_of_the_target_is_told_as_it_is_written(fraud: Repository, key: str, reason: str) -> None:
    fraud.write("deploy.toml", fraud.read("deploy.toml").replace("pass_env", f"{key}\npass_env"))
    assert f"runs: {reason}\n            was " in why(fraud, "deploy:fraud")


def test_a_result_that_is_gone_from_the_state_is_named(fraud: Repository) -> None:
    bundles, away = fraud.folder / ".flyte-build/bundles", fraud.folder / ".flyte-build/away"
    (archive,) = bundles.iterdir()
    before = digest.of_bytes(archive.read_bytes())[:12]
    bundles.rename(away)
    try:
        said = why(fraud, "deploy:fraud")
    finally:
        away.rename(bundles)
    reason = f"runs: its result bundles/{archive.name} is gone"
    assert said == expected(fraud, bundle=[reason, f"was {before}, is nothing"])


def test_of_a_single_step_only_what_it_needs_is_told(fraud: Repository) -> None:
    assert why(fraud, "bundle:fraud") == expected(fraud, "bundle")
    assert why(fraud, "images:fraud", "bundle:*") == expected(fraud, "images") + expected(fraud, "bundle")


def test_a_receipt_that_cannot_be_used_is_told(fraud: Repository) -> None:
    receipt = fraud.folder / ".flyte-build/targets/fraud/bundle.json"
    text = receipt.read_text()
    try:
        receipt.write_text(text[: len(text) // 2])
        said = why(fraud, "bundle:fraud")
    finally:
        receipt.write_text(text)
    assert said == expected(fraud, "bundle", bundle=["runs: its receipt was damaged; starting over"])


def test_a_key_that_cannot_be_made_is_told_as_the_deploy_would_tell_it(fraud: Repository) -> None:
    fraud.write("deploy.toml", fraud.read("deploy.toml").replace("pass_env", 'version = "{env:BUILD}"\npass_env'))
    message = "[targets.fraud] version: the environment variable `BUILD` is not set; set it, or use `{content}`"
    assert why(fraud, "deploy:fraud") == expected(fraud, serialize=[f"cannot be told: {message}"])
    assert failures(asked(fraud, "plan")) == {"plan:fraud": message}


def test_what_was_never_deployed_runs_and_looking_leaves_no_trace(repository: Repository) -> None:
    before = snapshot(repository.folder)
    ran = repository.doit("why", "deploy:fraud")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "\n".join(["fraud", *(f"  {step:<10}runs: not done here yet" for step in STEPS)]) + "\n"
    assert snapshot(repository.folder) == before


# --- how it is asked


def test_a_pattern_asks_about_each_target_that_matches(tmp_path: Path) -> None:
    manifest = '[targets.services]\nfor_each = "services/*"\npath = "{dir}/w.py"\nall = true\n'
    files = {f"services/{name}/w.py": environment(name) for name in ("churn", "fraud")}
    repository = Repository(tmp_path, {"deploy.toml": manifest, **files})
    said = repository.doit("why", "discover:services/*").out
    assert said == "".join(f"services/{name}\n  discover  runs: not done here yet\n" for name in ("churn", "fraud"))
    assert repository.doit("why", "discover").out == said
    assert repository.doit("why", "discover:services/churn").out == said[: len(said) // 2]


def test_the_flyte_build_script_answers_too(tmp_path: Path) -> None:
    repository = small(tmp_path)
    (tmp_path / "dodo.py").unlink()
    command = str(SCRIPTS / "flyte-build")
    assert repository.run(command, "why", "discover:fraud").out == "fraud\n  discover  runs: not done here yet\n"
    assert repository.run(command).code == 0
    machine = os.uname().nodename
    fresh = rf"fraud\n  discover  fresh: equals the receipt of \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, on {machine}\n"
    assert re.fullmatch(fresh, repository.run(command, "why", "discover:fraud").out)
    refused = repository.run(command, "why", "deploy:frad")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == "ERROR: command line: deploy:frad: no target `frad`; did you mean `fraud`?\n"


def test_doit_helps_with_it(repository: Repository) -> None:
    assert "  doit why               say why steps will run, or why not" in repository.doit("help").out
    assert "doit why [STEP:TARGET ...]" in repository.doit("help", "why").out


def test_nothing_is_run_and_nothing_is_written(fraud: Repository) -> None:
    fraud.write("fraud.py", "raise SystemExit(4)\n")
    before = snapshot(fraud.folder)
    assert why(fraud, "deploy:fraud").splitlines()[1] == "  discover  runs: fraud.py changed"
    assert snapshot(fraud.folder) == before


# --- the same as data


def test_as_json_there_is_one_object_for_each_step(fraud: Repository) -> None:
    fraud.write("shared/limits.py", "LIMIT = 2\n")
    ran = asked(fraud, "why", "images:fraud", "output=jsonl")
    assert (ran.code, ran.err) == (0, "")
    discovered, images = ran.events
    cause = {
        "kind": "file",
        "name": "shared/limits.py",
        "old": digest.of_bytes(b"LIMIT = 1\n"),
        "new": digest.of_bytes(b"LIMIT = 2\n"),
        "chain": ["fraud.py", "shared/rules.py", "shared/limits.py"],
    }
    common = {"event": "why", "target": "fraud"}
    assert discovered == {
        **common,
        "step": "discover",
        "verdict": "stale",
        "reason": "shared/limits.py changed",
        "cause": cause,
        "waits_for": [],
        "made": None,
    }
    made = images.pop("made")
    assert images == {
        **common,
        "step": "images",
        "verdict": "open",
        "reason": "",
        "cause": None,
        "waits_for": [discover.NAME],
    }
    assert (made["commit"], made["machine"]) == (git(fraud.folder, "rev-parse", "HEAD"), os.uname().nodename)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made["time"])


def test_a_run_and_a_plan_give_the_same_cause(tmp_path: Path) -> None:
    repository = small(tmp_path, fraud_py="import limits\n" + environment("fraud"), limits_py="LIMIT = 1\n")
    assert repository.doit().code == 0
    repository.write("limits.py", "LIMIT = 2\n")
    (told,) = repository.doit("why", "discover:fraud", "output=jsonl").events
    assert told["cause"]["chain"] == ["fraud.py", "limits.py"]
    planned = next(event for event in repository.doit("plan", "output=jsonl").events if event["event"] == "plan")
    # The plan has brought discovery and bundle up to date: the bundle's receipt tells why there is another to send.
    bits = {side: f"{told['cause'][side]}:-" for side in ("old", "new")}
    assert (planned["reason"], planned["cause"]) == (told["reason"], {**told["cause"], **bits})
    assert repository.doit("plan").out.splitlines()[1:3] == [
        "  because   fraud.py -> limits.py",
        f"  because   was {short('LIMIT = 1' + chr(10))}:-, is {short('LIMIT = 2' + chr(10))}:-",
    ]
    events = repository.doit("output=jsonl").events
    started = next(event for event in events if event["event"] == "started")
    assert (started["step"], started["cause"]) == ("upload", planned["cause"])
    target = next(event for event in events if event["event"] == "target")
    assert (target["reason"], target["cause"]) == (told["reason"], planned["cause"])


def test_what_failed_is_told_by_what_has_changed_since_it_was_done(tmp_path: Path) -> None:
    repository = Repository(tmp_path, FILES)
    assert repository.doit().code == 0
    repository.write("shared/limits.py", "LIMIT = (\n")
    assert repository.doit().code == 1
    chain = "fraud.py -> shared/rules.py -> shared/limits.py"
    told = [line.strip() for line in repository.doit("why", "discover:fraud").out.splitlines()]
    assert told[1:3] == ["discover  runs: shared/limits.py changed", chain]
    assert "discover  fraud  (shared/limits.py changed)\n" in repository.doit().err


def test_what_failed_and_is_again_as_it_was_did_not_finish(tmp_path: Path) -> None:
    repository = Repository(tmp_path, FILES)
    assert repository.doit().code == 0
    repository.write("shared/limits.py", "LIMIT = (\n")
    assert repository.doit().code == 1
    repository.write("shared/limits.py", "LIMIT = 1\n")
    assert "discover  runs: its last run did not finish\n" in repository.doit("why", "discover:fraud").out
    assert repository.doit().code == 0
    assert "1 fresh" in repository.doit().err


def test_what_was_forgotten_is_not_told_by_what_was_before(tmp_path: Path) -> None:
    repository = Repository(tmp_path, FILES)
    assert repository.doit().code == 0
    repository.write("shared/limits.py", "LIMIT = (\n")
    assert repository.doit().code == 1
    repository.doit("forget", "discover:fraud")
    assert "discover  runs: not done here yet\n" in repository.doit("why", "discover:fraud").out
