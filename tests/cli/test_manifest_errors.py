"""What a user reads when deploy.toml or the command line is wrong: nothing was started, and the exit code is 3."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.mark import ParameterSet

from tests.repository import Repository

PATH = '[targets.fraud]\npath = "fraud.py"\n'
ALL = f"{PATH}all = true\n"
SERVICES = '[targets.services]\nfor_each = "services/*"\n'
STORES = "`backend`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `abfs://CONTAINER/PREFIX` and `./FOLDER`"


class Case(NamedTuple):
    expected: str
    """All that is written to standard error, without `ERROR: ` and the newline at its end."""
    manifest: str | bytes | None = ALL
    files: tuple[str, ...] = ()
    """Empty files."""
    words: tuple[str, ...] = ()


EXAMPLE = '[targets.hello]\npath = "hello.py"\nall = true'

CASES = {
    "ManifestMissing": Case(f"deploy.toml: no such file; write one, for example:\n\n{EXAMPLE}", manifest=None),
    "ManifestMissing: another": Case(
        f"ci/deploy.toml: no such file; write one, for example:\n\n{EXAMPLE}", words=("manifest=ci/deploy.toml",)
    ),
    "ManifestUnreadable": Case(
        "deploy.toml: cannot be read: it is not UTF-8; make it a readable UTF-8 file", manifest=b"[targets.caf\xe9]\n"
    ),
    "ManifestUnreadable: folder": Case(
        "services: cannot be read: is a directory; make it a readable UTF-8 file",
        files=("services/a.py",),
        words=("manifest=services",),
    ),
    "ManifestSyntax": Case(
        "deploy.toml:2:8: not valid TOML: invalid value; mend the syntax there",
        manifest="[targets.fraud]\npath = fraud.py\n",
    ),
    "CommandLineVariableUnknown": Case(
        "command line: no variable `domian`; did you mean `domain`?", words=("domian=production",)
    ),
    "CommandLineVariableEmpty": Case(
        "command line: `version=` has no value; give one, or leave it out", words=("version=",)
    ),
    "UnknownTarget": Case("command line: deploy:frad: no target `frad`; did you mean `fraud`?", words=("deploy:frad",)),
    "UnknownTarget: pattern": Case(
        "command line: plan:services/*: no target matches `services/*`; known: `fraud`", words=("plan:services/*",)
    ),
    "UnknownTarget: of a for_each": Case(
        "command line: deploy:fraud: no target `fraud`; did you mean `services/fraud`?",
        manifest=f'{SERVICES}path = "{{dir}}/w.py"\nall = true\n',
        files=("services/fraud/w.py",),
        words=("deploy:fraud",),
    ),
    "UnknownTarget: info": Case(
        "command line: bundle:churn: no target `churn`; known: `fraud`", words=("info", "bundle:churn")
    ),
    "UnknownTarget: forget": Case(
        "command line: deploy:fraud2: no target `fraud2`; did you mean `fraud`?", words=("forget", "deploy:fraud2")
    ),
    "UnknownTarget: why": Case(
        "command line: deploy:frad: no target `frad`; did you mean `fraud`?", words=("why", "deploy:frad")
    ),
    "NotAStep": Case(
        "command line: why plan:fraud: is no step of a target; ask about one of `discover`, `bundle`, `images`, "
        "`upload`, `serialize` and `deploy`",
        words=("why", "plan:fraud"),
    ),
    "NotAStep: a word": Case(
        "command line: why fraud: is no step of a target; write `doit why deploy:fraud`",
        words=("why", "fraud"),
    ),
    "UnknownProfile": Case(
        "deploy.toml: no profile `prd`; did you mean `prod`?",
        manifest=f'{ALL}[profiles.prod.flyte]\ndomain = "production"\n',
        words=("profile=prd",),
    ),
    "UnknownProfile: none": Case("deploy.toml: no profile `prod`; there are none", words=("profile=prod",)),
    "UnknownKey": Case(
        "deploy.toml:4: [targets.fraud] copystyle: no such key; did you mean `copy_style`?",
        manifest=f'{ALL}copystyle = "all"\n',
    ),
    "UnknownKey: table": Case(
        "deploy.toml:1: [target]: no such table; did you mean `targets`?",
        manifest=f'[target.churn]\npath = "fraud.py"\n{ALL}',
    ),
    "UnknownKey: profile": Case(
        "deploy.toml:5: [profiles.prod.flyte] domian: no such key; did you mean `domain`?",
        manifest=f'{ALL}[profiles.prod.flyte]\ndomian = "production"\n',
    ),
    "UnknownProfileTarget": Case(
        "deploy.toml:4: [profiles.prod.targets.frad]: no target `frad`; correct the name (did you mean `fraud`?), "
        "or write a `path` for a target that only this profile has",
        manifest=f'{ALL}[profiles.prod.targets.frad]\nversion = "v1"\n',
    ),
    "UnknownProfileTarget: one of a for_each": Case(
        'deploy.toml:5: [profiles.prod.targets."services/fraud"]: the target `services/fraud` comes from a '
        "`for_each`; write `[profiles.prod.targets.services]`",
        manifest=f'{SERVICES}path = "{{dir}}/w.py"\nall = true\n[profiles.prod.targets."services/fraud"]\n',
        files=("services/fraud/w.py",),
        words=("profile=prod",),
    ),
    "WrongValue": Case(
        'deploy.toml:4: [targets.fraud] load_timeout: expected a number above 0 and up to 86400, got `"5 min"`; '
        "write for example `load_timeout = 300`",
        manifest=f'{ALL}load_timeout = "5 min"\n',
    ),
    "WrongValue: list": Case(
        'deploy.toml:4: [targets.fraud] include: expected a list of non-empty text, got `"sql/*.sql"`; '
        'write for example `include = ["sql/*.sql"]`',
        manifest=f'{ALL}include = "sql/*.sql"\n',
    ),
    "WrongValue: flag": Case(
        'deploy.toml:3: [targets.fraud] all: expected `true` or `false`, got `"yes"`; write for example `all = true`',
        manifest=f'{PATH}all = "yes"\n',
    ),
    "WrongValue: range": Case(
        "deploy.toml:4: [targets.fraud] load_timeout: expected a number above 0 and up to 86400, got `0`; "
        "write for example `load_timeout = 300`",
        manifest=f"{ALL}load_timeout = 0\n",
    ),
    "WrongValue: port": Case(
        "command line: port: expected a number from 0 to 65535, got `http`; write for example `port=8090`",
        words=("serve", "port=http"),
    ),
    "UnknownChoice": Case(
        "deploy.toml:4: [targets.fraud] copy_style: `loaded` is not a choice; did you mean `loaded_modules`?",
        manifest=f'{ALL}copy_style = "loaded"\n',
    ),
    "UnknownChoice: output": Case(
        "command line: output: `json` is not a choice; did you mean `jsonl`?", words=("output=json",)
    ),
    "UnknownChoice: force": Case(
        "command line: force: `yes` is not a choice; known: `false` and `true`", words=("force=yes",)
    ),
    "MissingKey": Case(
        'deploy.toml:1: [targets.fraud]: `path` is missing; write for example `path = "hello.py"`',
        manifest="[targets.fraud]\nall = true\n",
    ),
    "NoTargets": Case(
        "deploy.toml: [targets]: nothing to deploy; write a table `[targets.NAME]` with `path` and `all = true`",
        manifest='[flyte]\nproject = "risk"\n',
    ),
    "BadTargetName": Case(
        'deploy.toml:1: [targets."fraud:v2"]: `fraud:v2` cannot name a target; '
        "take a name with no `:`, `=`, `*` or empty part, and no `-` or `_` at its start",
        manifest='[targets."fraud:v2"]\npath = "fraud.py"\nall = true\n',
    ),
    "DuplicateTarget": Case(
        'deploy.toml:5: [targets.services]: gives a target `services/fraud`, and so does [targets."services/fraud"] '
        "on line 1; rename one, or narrow a `for_each`",
        manifest='[targets."services/fraud"]\npath = "fraud.py"\nall = true\n\n'
        f'{SERVICES}path = "{{dir}}/workflow.py"\nall = true\n',
        files=("services/fraud/workflow.py",),
    ),
    "NoSelection": Case(
        "deploy.toml:1: [targets.fraud]: selects no environment; "
        'write one of `environment = "NAME"`, `all = true` and `recursive = true`',
        manifest=PATH,
    ),
    "SeveralSelections": Case(
        "deploy.toml:3: [targets.fraud] all: `environment` and `all` exclude each other; keep one of them",
        manifest=f'{ALL}environment = "env"\n',
    ),
    "BadEnvironmentName": Case(
        "deploy.toml:3: [targets.fraud] environment: `fraud-env` is not the name of a variable; "
        "write the name that the environment is assigned to",
        manifest=f'{PATH}environment = "fraud-env"\n',
    ),
    "VersionRequired": Case(
        'deploy.toml:4: [targets.fraud] copy_style: `copy_style = "none"` bundles no code that could give a version; '
        "write a `version` without `{content}`, or give `version=` on the command line",
        manifest=f'{ALL}copy_style = "none"\n',
    ),
    "UnknownPlaceholder": Case(
        "deploy.toml:4: [targets.fraud] version: `{git_hash}` is not a placeholder; did you mean `{git_sha}`?",
        manifest=f'{ALL}version = "v{{git_hash}}"\n',
    ),
    "UnknownPlaceholder: command line": Case(
        "command line: version: `{sha}` is not a placeholder; did you mean `{git_sha}`?", words=("version={sha}",)
    ),
    "PlaceholderWithoutForEach": Case(
        "deploy.toml:2: [targets.fraud] path: `{dir}` means something only beside `for_each`; "
        'add `for_each = "FOLDERS/*"`, or write it out',
        manifest='[targets.fraud]\npath = "{dir}/workflow.py"\nall = true\n',
    ),
    "SamePathForAll": Case(
        "deploy.toml:3: [targets.services] path: `fraud.py` is the same for every folder; "
        "put `{dir}` or `{name}` into it",
        manifest=f'{SERVICES}path = "fraud.py"\nall = true\n',
        files=("services/fraud/workflow.py",),
    ),
    "NoFolders": Case(
        "deploy.toml:2: [targets.services] for_each: no folder matches `services/*`; "
        "write a pattern relative to the manifest, such as `services/*`",
        manifest=f'{SERVICES}path = "{{dir}}/workflow.py"\nall = true\n',
    ),
    "NoFolderHasPath": Case(
        "deploy.toml:3: [targets.services] path: 1 folder matches `services/*`, "
        "but `{dir}/workflow.py` is in none of them; correct one of the two",
        manifest=f'{SERVICES}path = "{{dir}}/workflow.py"\nall = true\n',
        files=("services/fraud/flow.py",),
    ),
    "PathMissing": Case(
        "deploy.toml:2: [targets.churn] path: no file or folder `churn.py`; write a path relative to the manifest",
        manifest='[targets.churn]\npath = "churn.py"\nall = true\n',
    ),
    "OutsideManifestFolder": Case(
        "deploy.toml:2: [targets.fraud] path: `../fraud.py` is outside the manifest's folder; "
        "write a path inside, or move the manifest up",
        manifest='[targets.fraud]\npath = "../fraud.py"\nall = true\n',
    ),
    "RootNotAFolder": Case(
        "deploy.toml:4: [targets.fraud] root_dir: `src` is not a folder; write the folder that imports start from",
        manifest=f'{ALL}root_dir = "src"\n',
    ),
    "PathOutsideRoot": Case(
        "deploy.toml:2: [targets.fraud] path: `fraud.py` is outside the root `src`; "
        "set `root_dir` to a folder that holds it",
        manifest=f'{ALL}root_dir = "src"\n',
        files=("src/app.py",),
    ),
    "RecursiveNeedsFolder": Case(
        "deploy.toml:2: [targets.fraud] path: `fraud.py` is a file, and `recursive` takes a folder; "
        "write its folder, or `all = true`",
        manifest=f"{PATH}recursive = true\n",
    ),
    "EnvironmentNeedsFile": Case(
        "deploy.toml:2: [targets.jobs] path: `jobs` is a folder, and `environment` takes a file; "
        "write the file, or `all = true`",
        manifest='[targets.jobs]\npath = "jobs"\nenvironment = "env"\n',
        files=("jobs/daily.py",),
    ),
    "NotPython": Case(
        "deploy.toml:2: [targets.fraud] path: `fraud.ipynb` is not a Python file; "
        "write a file that ends in `.py`, or a folder",
        manifest='[targets.fraud]\npath = "fraud.ipynb"\nall = true\n',
        files=("fraud.ipynb",),
    ),
    "BadRegistry": Case(
        "deploy.toml:5: [images] registry: `https://ghcr.io/acme` is a URL, not a registry; write `ghcr.io/acme`",
        manifest=f'{ALL}[images]\nregistry = "https://ghcr.io/acme"\n',
    ),
    "BadStoreUrl": Case(
        f"deploy.toml:5: [store] url: `s3:/bucket` is not a store; write one of {STORES}",
        manifest=f'{ALL}[store]\nurl = "s3:/bucket"\n',
    ),
    "BadEndpoint": Case(
        "deploy.toml:5: [flyte] endpoint: `grpc://flyte.example.com` is not an endpoint; "
        "write `dns:///HOST`, `dns:///HOST:PORT` or `https://HOST`",
        manifest=f'{ALL}[flyte]\nendpoint = "grpc://flyte.example.com"\n',
    ),
    "FlyteConfigMissing": Case(
        "deploy.toml:5: [flyte] config: no Flyte config file `flyte.yaml`; "
        "correct the path, or make it with `flyte create config`",
        manifest=f'{ALL}[flyte]\nconfig = "flyte.yaml"\n',
    ),
    "FlyteConfigInvalid": Case(
        "fraud.py:1: not valid YAML: expected the node content, but found '<stream end>'; mend the syntax there",
        manifest=f'{ALL}[flyte]\nconfig = "fraud.py"\n',
    ),
}


def marked(name: str) -> ParameterSet:
    return pytest.param(name, marks=pytest.mark.error(name.partition(":")[0]))


@pytest.mark.parametrize("name", [marked(name) for name in CASES])
def test_a_wrong_manifest_or_command_line_starts_nothing_and_says_what_to_write(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    repository = Repository(tmp_path, {"fraud.py": "[", **dict.fromkeys(case.files, "")})
    if case.manifest is not None:
        text = case.manifest if isinstance(case.manifest, bytes) else case.manifest.encode()
        (tmp_path / "deploy.toml").write_bytes(text)
    ran = repository.doit(*case.words)
    assert (ran.code, ran.out, ran.err) == (3, "", f"ERROR: {case.expected}\n")
    assert not (tmp_path / ".flyte-build").exists()


@pytest.mark.error("ManifestProblems")
def test_several_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    manifest = f'{PATH}copystyle = "all"\nload_timeout = "x"\n[store]\nurl = 3\n'
    ran = Repository(tmp_path, {"deploy.toml": manifest, "fraud.py": ""}).doit()
    assert ran.code == 3
    assert ran.err.splitlines() == [
        "ERROR: deploy.toml:3: [targets.fraud] copystyle: no such key; did you mean `copy_style`?",
        'deploy.toml:4: [targets.fraud] load_timeout: expected a number above 0 and up to 86400, got `"x"`; '
        "write for example `load_timeout = 300`",
        'deploy.toml:6: [store] url: expected text, got `3`; write for example `url = "s3://bucket/prefix"`',
    ]


@pytest.mark.parametrize("words", [("list",), ("info", "deploy:fraud"), ("forget", "--all"), ("clean",), ("plan",)])
def test_every_command_says_it(words: tuple[str, ...], tmp_path: Path) -> None:
    ran = Repository(tmp_path, {"deploy.toml": PATH, "fraud.py": ""}).doit(*words)
    assert ran.code == 3
    assert ran.err.startswith("ERROR: deploy.toml:1: [targets.fraud]: selects no environment; ")
