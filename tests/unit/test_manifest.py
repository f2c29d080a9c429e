"""deploy.toml -> Manifest: what every key means, and what a user reads when one is wrong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import tomli

from flyte_build import errors
from flyte_build.manifest import Manifest, json_schema, parse_manifest, read_manifest
from flyte_build.manifest_tables import FlyteTable, ImagesTable, TargetTable
from flyte_build.model import BackendSettings, ImageSettings, Origin, StoreSettings, Target

PROJECT = Path(__file__).parents[2]
ALL = 'path = "hello.py"\nall = true\n'
MANY = Origin(table="[targets.services]", for_each=True)
HELLO = f"[targets.hello]\n{ALL}"

WHOLE = """\
[flyte]
endpoint = "dns:///flyte.example.com"
insecure = false
project = "flytesnacks"
domain = "development"
org = ""

[store]
url = "s3://bucket/prefix"
endpoint_url = "http://127.0.0.1:9000"
region = "us-east-1"

[images]
builder = "local"
registry = "localhost:5000"
default = "ghcr.io/org/base:v1"
mirrors = { "ghcr.io" = "localhost:5000/ghcr", "docker.io" = "localhost:5000/hub" }
[images.refs]
base = "ghcr.io/org/base:v1.0"

[targets.fraud]
path = "services/fraud/workflow.py"
environment = "env"
root_dir = "services/fraud"
copy_style = "loaded_modules"
version = "{content}"
include = ["services/fraud/sql/*.sql"]
exclude = ["**/tests/**"]
lazy_imports = true
ignore_load_errors = false
sync_local_sys_paths = true
pass_env = ["STAGE"]
load_timeout = 300
skip_apps = true
max_bundle_size = "200MB"

[targets.services]
for_each = "services/*"
path = "{dir}/workflow.py"
all = true

[profiles.prod.flyte]
domain = "production"
"""


@pytest.fixture(autouse=True)
def repository(tmp_path: Path) -> Path:
    """A small monorepo, with things in it that are no services."""
    files = ["hello.py", "notes.txt", "services/fraud/workflow.py", "services/churn/workflow.py", "services/docs/a.md"]
    for name in [*files, "services/.hidden/workflow.py", "services/__pycache__/workflow.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def parse(folder: Path, text: str, **variables: str) -> Manifest:
    return parse_manifest(text, file="deploy.toml", folder=folder, variables=variables, environ={})


def problems(folder: Path, text: str, **variables: str) -> list[str]:
    with pytest.raises(errors.ManifestProblems) as caught:
        parse(folder, text, **variables)
    return str(caught.value).split("\n")


def test_every_key_reaches_the_manifest(repository: Path) -> None:
    manifest = parse(repository, WHOLE)
    assert (manifest.folder, manifest.file) == (str(repository), "deploy.toml")
    assert manifest.backend == BackendSettings(endpoint="dns:///flyte.example.com", org="flyte")
    assert manifest.store == StoreSettings(
        url="s3://bucket/prefix", endpoint_url="http://127.0.0.1:9000", region="us-east-1"
    )
    assert manifest.images == ImageSettings(
        builder="local",
        registry="localhost:5000",
        default="ghcr.io/org/base:v1",
        mirrors={"ghcr.io": "localhost:5000/ghcr", "docker.io": "localhost:5000/hub"},
        refs={"base": "ghcr.io/org/base:v1.0", "default": "ghcr.io/org/base:v1"},
    )
    assert manifest.targets == {
        "fraud": Target(
            name="fraud",
            path="services/fraud/workflow.py",
            origin=Origin(table="[targets.fraud]"),
            environments=("env",),
            root_dir="services/fraud",
            include=("services/fraud/sql/*.sql",),
            exclude=("**/tests/**",),
            pass_env=("STAGE",),
            skip_apps=True,
            max_bundle_size=200_000_000,
        ),
        "services/churn": Target(name="services/churn", path="services/churn/workflow.py", origin=MANY, all=True),
        "services/fraud": Target(name="services/fraud", path="services/fraud/workflow.py", origin=MANY, all=True),
    }


def test_the_defaults_are_those_of_the_model(repository: Path) -> None:
    manifest = parse(repository, HELLO)
    assert manifest.targets == {
        "hello": Target(name="hello", path="hello.py", origin=Origin(table="[targets.hello]"), all=True)
    }
    assert manifest.backend == BackendSettings()
    assert manifest.images == ImageSettings()
    assert manifest.store == StoreSettings(url=f"file://{repository}/.flyte-build/store")


@pytest.mark.parametrize(
    ("table", "model"), [(FlyteTable, BackendSettings), (ImagesTable, ImageSettings), (TargetTable, Target)]
)
def test_a_table_and_its_model_state_the_same_defaults(
    table: type[msgspec.Struct], model: type[msgspec.Struct]
) -> None:
    plain = (str, bool, int, float)
    ours = {field.name: field.default for field in msgspec.structs.fields(table) if isinstance(field.default, plain)}
    models = {field.name: field.default for field in msgspec.structs.fields(model) if isinstance(field.default, plain)}
    shared = ours.keys() & models.keys()
    assert len(shared) >= 3
    assert {name: ours[name] for name in shared} == {name: models[name] for name in shared}


def test_environment_takes_a_list(repository: Path) -> None:
    manifest = parse(repository, '[targets.hello]\npath = "hello.py"\nenvironment = ["first", "second"]\n')
    assert manifest.targets["hello"].environments == ("first", "second")


def test_all_and_recursive_take_a_folder(repository: Path) -> None:
    text = '[targets.a]\npath = "services/fraud/"\nall = true\n[targets.b]\npath = "./services"\nrecursive = true\n'
    targets = parse(repository, text).targets
    assert (targets["a"].path, targets["b"].path) == ("services/fraud", "services")


def test_for_each_fills_in_the_folder_everywhere(repository: Path) -> None:
    text = """\
[targets.services]
for_each = "services/f*"
path = "{dir}/workflow.py"
environment = "{name}_env"
root_dir = "{dir}"
include = ["{dir}/sql/*.sql"]
exclude = ["**/{name}_test.py"]
"""
    assert parse(repository, text).targets == {
        "services/fraud": Target(
            name="services/fraud",
            path="services/fraud/workflow.py",
            origin=MANY,
            environments=("fraud_env",),
            root_dir="services/fraud",
            include=("services/fraud/sql/*.sql",),
            exclude=("**/fraud_test.py",),
        )
    }


def test_for_each_sees_hidden_folders_only_when_told(repository: Path) -> None:
    text = '[targets.services]\nfor_each = "services/.*"\npath = "{dir}/workflow.py"\nall = true\n'
    assert list(parse(repository, text).targets) == ["services/.hidden"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [("5", 5), ('"12B"', 12), ('"3 kB"', 3000), ('"3 KiB"', 3072), ('"2MiB"', 2 * 1024**2), ('"1 GB"', 10**9)],
)
def test_a_bundle_size_is_bytes_or_text_with_a_unit(repository: Path, size: str, expected: int) -> None:
    manifest = parse(repository, HELLO + f"max_bundle_size = {size}\n")
    assert manifest.targets["hello"].max_bundle_size == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("backend", "file://{folder}/.flyte-build/store"),
        ("./bundles/", "file://{folder}/bundles"),
        ("build/bundles", "file://{folder}/build/bundles"),
        ("file://bundles", "file://{folder}/bundles"),
        ("file:///srv/bundles/", "file:///srv/bundles"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("gs://bucket/prefix", "gs://bucket/prefix"),
        ("abfs://container/prefix", "abfs://container/prefix"),
    ],
)
def test_a_store_url_is_made_absolute(repository: Path, url: str, expected: str) -> None:
    manifest = parse(repository, f'[store]\nurl = "{url}"\n{HELLO}')
    assert manifest.store.url == expected.format(folder=repository)


def test_the_store_of_an_endpoint_is_the_backend(repository: Path) -> None:
    assert parse(repository, f'[flyte]\nendpoint = "localhost:8090"\n{HELLO}').store.url == "backend"


@pytest.mark.parametrize("endpoint", ["localhost:8090", "dns:///localhost:8090", "http://localhost:8090/"])
def test_an_endpoint_has_one_spelling(repository: Path, endpoint: str) -> None:
    assert parse(repository, f'[flyte]\nendpoint = "{endpoint}"\n{HELLO}').backend.endpoint == "dns:///localhost:8090"


def test_default_image_and_the_reference_of_that_name_are_one(repository: Path) -> None:
    manifest = parse(repository, f'[images.refs]\ndefault = "base:v1"\n{HELLO}')
    assert manifest.images == ImageSettings(default="base:v1", refs={"default": "base:v1"})


PROFILES = f"""\
[flyte]
endpoint = "dns:///flyte.example.com"
project = "base"

{HELLO}copy_style = "all"

[images]
default = "base:v1"
refs = {{ one = "one:v1", two = "two:v1" }}

[profiles.prod.flyte]
domain = "production"
[profiles.prod.images]
default = "base:v2"
[profiles.prod.images.refs]
two = "two:v2"
[profiles.prod.targets.hello]
version = "v-{{git_sha}}"
[profiles.prod.targets.extra]
path = "services"
recursive = true

[profiles.local.flyte]
endpoint = ""
[profiles.local.images]
default = ""
"""


def test_a_profile_lies_over_the_tables_key_by_key(repository: Path) -> None:
    manifest = parse(repository, PROFILES, profile="prod")
    assert (manifest.backend.project, manifest.backend.domain) == ("base", "production")
    assert manifest.images.refs == {"one": "one:v1", "two": "two:v2", "default": "base:v2"}
    assert manifest.images.default == "base:v2"
    assert manifest.targets["hello"].version == "v-{git_sha}"
    assert manifest.targets["hello"].copy_style == "all"
    assert manifest.targets["extra"].recursive


def test_without_a_profile_none_counts(repository: Path) -> None:
    manifest = parse(repository, PROFILES)
    assert manifest.backend.domain == "development"
    assert list(manifest.targets) == ["hello"]


def test_a_profile_can_take_a_setting_back(repository: Path) -> None:
    manifest = parse(repository, PROFILES, profile="local")
    assert manifest.backend.embedded
    assert manifest.images.default == ""
    assert manifest.images.refs == {"one": "one:v1", "two": "two:v1"}


LAYERS = ["default", "config", "table", "profile", "command line"]


@pytest.mark.parametrize("top", LAYERS)
def test_the_highest_layer_that_names_a_project_wins(repository: Path, top: str) -> None:
    present = LAYERS[1 : LAYERS.index(top) + 1]
    (repository / "config.yaml").write_text("task:\n  project: config\n" if "config" in present else "task: {}\n")
    text = '[flyte]\nconfig = "config.yaml"\n'
    text += 'project = "table"\n' if "table" in present else ""
    text += "[profiles.p.flyte]\n" + ('project = "profile"\n' if "profile" in present else "") + HELLO
    variables = {"profile": "p"} | ({"project": "command line"} if "command line" in present else {})
    assert parse(repository, text, **variables).backend.project == ("flytesnacks" if top == "default" else top)


def test_a_version_on_the_command_line_is_for_every_target(repository: Path) -> None:
    manifest = parse(repository, WHOLE, version="v2.0.0")
    assert {target.version for target in manifest.targets.values()} == {"v2.0.0"}


def test_a_version_on_the_command_line_is_enough_for_copy_style_none(repository: Path) -> None:
    manifest = parse(repository, HELLO + 'copy_style = "none"\n', version="v1")
    assert manifest.targets["hello"].copy_style == "none"


def test_variables_of_other_parts_are_let_through(repository: Path) -> None:
    manifest = parse(repository, HELLO, manifest="x.toml", port="8090", output="jsonl", force="true")
    assert list(manifest.targets) == ["hello"]


def test_the_folder_is_the_same_through_a_link(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "checkout"
    link.symlink_to(repository)
    assert parse(link, HELLO) == parse(repository, HELLO)


def test_a_manifest_is_read_from_its_file(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "deploy.toml").write_text(HELLO)
    monkeypatch.chdir(repository)
    manifest = read_manifest(Path("deploy.toml"), {}, {})
    assert (manifest.file, manifest.folder) == ("deploy.toml", str(repository))
    assert read_manifest(repository / "deploy.toml", {}, {}) == manifest


def test_a_manifest_is_the_same_value_from_json(repository: Path) -> None:
    manifest = parse(repository, WHOLE)
    assert msgspec.json.decode(manifest.json(), type=Manifest) == manifest


SPELLING = {
    "unknown key": (
        HELLO + "copy_stile = 1",
        "deploy.toml:4: [targets.hello] copy_stile: no such key; did you mean `copy_style`?",
    ),
    "unknown key without a likeness": (
        f"{HELLO}[store]\nzzz = 1",
        "deploy.toml:5: [store] zzz: no such key; known: `endpoint_url`, `region` and `url`",
    ),
    "unknown key at the top": (f"target = 1\n{HELLO}", "deploy.toml:1: target: no such key; did you mean `targets`?"),
    "unknown table": (f"{HELLO}[image]\nx = 1", "deploy.toml:4: [image]: no such table; did you mean `images`?"),
    "unknown table in a profile": (
        f"{HELLO}[profiles.prod.flite]",
        "deploy.toml:4: [profiles.prod.flite]: no such table; did you mean `flyte`?",
    ),
    "text for a flag": (
        '[targets.hello]\npath = "hello.py"\nall = "yes"',
        'deploy.toml:3: [targets.hello] all: expected `true` or `false`, got `"yes"`; write for example `all = true`',
    ),
    "number for text": (
        f"{HELLO}[flyte]\nproject = 5",
        "deploy.toml:5: [flyte] project: expected text that is not empty, got `5`; "
        'write for example `project = "flytesnacks"`',
    ),
    "text for a list": (
        HELLO + 'pass_env = "STAGE"',
        'deploy.toml:4: [targets.hello] pass_env: expected a list of non-empty text, got `"STAGE"`; '
        'write for example `pass_env = ["STAGE"]`',
    ),
    "date for text": (
        HELLO + "version = 2024-01-02",
        "deploy.toml:4: [targets.hello] version: expected text that is not empty, got `2024-01-02`; "
        'write for example `version = "v1-{git_sha}"`',
    ),
    "value for a table": (
        f"store = 's3://bucket'\n{HELLO}",
        'deploy.toml:1: store: expected a table, got `"s3://bucket"`; write for example `[store]`',
    ),
    "text for mirrors": (
        f'{HELLO}[images]\nmirrors = "localhost:5000"',
        'deploy.toml:5: [images] mirrors: expected a table of registry = mirror, got `"localhost:5000"`; '
        'write for example `mirrors = { "docker.io" = "localhost:5000/hub" }`',
    ),
    "number for a reference": (
        f"{HELLO}[images.refs]\nbase = 1",
        "deploy.toml:5: [images.refs] base: expected text that is not empty, got `1`; "
        'write for example `base = "ghcr.io/org/base:v1"`',
    ),
    "bad copy style": (
        HELLO + 'copy_style = "loaded_module"',
        "deploy.toml:4: [targets.hello] copy_style: `loaded_module` is not a choice; did you mean `loaded_modules`?",
    ),
    "bad copy style in a profile": (
        f'{HELLO}[profiles.prod.targets.hello]\ncopy_style = "fast"',
        "deploy.toml:5: [profiles.prod.targets.hello] copy_style: `fast` is not a choice; "
        "known: `all`, `loaded_modules` and `none`",
    ),
    "number for a copy style": (
        HELLO + "copy_style = 1",
        "deploy.toml:4: [targets.hello] copy_style: expected `loaded_modules`, `all` or `none`, got `1`; "
        'write for example `copy_style = "all"`',
    ),
    "bad builder": (
        f'{HELLO}[images]\nbuilder = "lokal"',
        "deploy.toml:5: [images] builder: `lokal` is not a choice; did you mean `local`?",
    ),
    "negative load timeout": (
        HELLO + "load_timeout = -1",
        "deploy.toml:4: [targets.hello] load_timeout: expected a number above 0 and up to 86400, got `-1`; "
        "write for example `load_timeout = 300`",
    ),
    "load timeout that never comes": (
        HELLO + "load_timeout = inf",
        "deploy.toml:4: [targets.hello] load_timeout: expected a number above 0 and up to 86400, got `inf`; "
        "write for example `load_timeout = 300`",
    ),
    "bad bundle size": (
        HELLO + 'max_bundle_size = "2 parsecs"',
        'deploy.toml:4: [targets.hello] max_bundle_size: expected a number of bytes or a size, got `"2 parsecs"`; '
        'write for example `max_bundle_size = "200MB"`',
    ),
    "long value": (
        HELLO + f"all_of_it = 1\ninclude = {list(range(40))}",
        "deploy.toml:5: [targets.hello] include: expected a list of non-empty text, got "
        '`[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...`; write for example `include = ["sql/*.sql"]`',
    ),
    "no path": (
        "[targets.hello]\nall = true",
        'deploy.toml:1: [targets.hello]: `path` is missing; write for example `path = "hello.py"`',
    ),
    "no targets": (
        "[flyte]\ninsecure = true",
        "deploy.toml: [targets]: nothing to deploy; write a table `[targets.NAME]` with `path` and `all = true`",
    ),
    "an empty file": (
        "",
        "deploy.toml: [targets]: nothing to deploy; write a table `[targets.NAME]` with `path` and `all = true`",
    ),
    "an empty table of targets": (
        "[targets]",
        "deploy.toml:1: [targets]: nothing to deploy; write a table `[targets.NAME]` with `path` and `all = true`",
    ),
}


@pytest.mark.parametrize(("text", "message"), SPELLING.values(), ids=SPELLING.keys())
def test_a_wrong_key_or_value_is_named_with_its_line(repository: Path, text: str, message: str) -> None:
    assert message in problems(repository, text)


ONLY_PATH = '[targets.hello]\npath = "hello.py"\n'
SERVICES = '[targets.services]\nfor_each = "services/*"\nall = true\n'

MEANING = {
    "no selection": (
        ONLY_PATH,
        "deploy.toml:1: [targets.hello]: selects no environment; "
        'write one of `environment = "NAME"`, `all = true` and `recursive = true`',
    ),
    "a selection that is switched off": (
        ONLY_PATH + "all = false",
        "deploy.toml:1: [targets.hello]: selects no environment; "
        'write one of `environment = "NAME"`, `all = true` and `recursive = true`',
    ),
    "two selections": (
        HELLO + 'environment = "env"',
        "deploy.toml:3: [targets.hello] all: `environment` and `all` exclude each other; keep one of them",
    ),
    "environment that is no name": (
        ONLY_PATH + 'environment = "my-env"',
        "deploy.toml:3: [targets.hello] environment: `my-env` is not the name of a variable; "
        "write the name that the environment is assigned to",
    ),
    "two tables give one target": (
        f'{SERVICES}path = "{{dir}}/workflow.py"\n[targets."services/fraud"]\n{ALL}',
        'deploy.toml:5: [targets."services/fraud"]: gives a target `services/fraud`, '
        "and so does [targets.services] on line 1; rename one, or narrow a `for_each`",
    ),
    "missing path": (
        '[targets.hello]\npath = "helo.py"\nall = true',
        "deploy.toml:2: [targets.hello] path: no file or folder `helo.py`; write a path relative to the manifest",
    ),
    "path outside the root": (
        HELLO + 'root_dir = "services"',
        "deploy.toml:2: [targets.hello] path: `hello.py` is outside the root `services`; "
        "set `root_dir` to a folder that holds it",
    ),
    "path outside the manifest's folder": (
        '[targets.hello]\npath = "../hello.py"\nall = true',
        "deploy.toml:2: [targets.hello] path: `../hello.py` is outside the manifest's folder; "
        "write a path inside, or move the manifest up",
    ),
    "root outside the manifest's folder": (
        HELLO + 'root_dir = ".."',
        "deploy.toml:4: [targets.hello] root_dir: `..` is outside the manifest's folder; "
        "write a path inside, or move the manifest up",
    ),
    "root that is a file": (
        HELLO + 'root_dir = "hello.py"',
        "deploy.toml:4: [targets.hello] root_dir: `hello.py` is not a folder; write the folder that imports start from",
    ),
    "recursive on a file": (
        ONLY_PATH + "recursive = true",
        "deploy.toml:2: [targets.hello] path: `hello.py` is a file, and `recursive` takes a folder; "
        "write its folder, or `all = true`",
    ),
    "environment on a folder": (
        '[targets.hello]\npath = "services"\nenvironment = "env"',
        "deploy.toml:2: [targets.hello] path: `services` is a folder, and `environment` takes a file; "
        "write the file, or `all = true`",
    ),
    "a file that is not Python": (
        '[targets.hello]\npath = "notes.txt"\nall = true',
        "deploy.toml:2: [targets.hello] path: `notes.txt` is not a Python file; "
        "write a file that ends in `.py`, or a folder",
    ),
    "copy style none without a version": (
        HELLO + 'copy_style = "none"',
        'deploy.toml:4: [targets.hello] copy_style: `copy_style = "none"` bundles no code that could give a version; '
        "write a `version` without `{content}`, or give `version=` on the command line",
    ),
    "copy style none with a version of the content": (
        HELLO + 'copy_style = "none"\nversion = "v1-{content}"',
        'deploy.toml:4: [targets.hello] copy_style: `copy_style = "none"` bundles no code that could give a version; '
        "write a `version` without `{content}`, or give `version=` on the command line",
    ),
    "bad placeholder": (
        HELLO + 'version = "v1-{contents}"',
        "deploy.toml:4: [targets.hello] version: `{contents}` is not a placeholder; did you mean `{content}`?",
    ),
    "placeholder for a bad variable": (
        HELLO + 'version = "{env:}"',
        "deploy.toml:4: [targets.hello] version: `{env:}` is not a placeholder; did you mean `{env:NAME}`?",
    ),
    "lone brace": (
        HELLO + 'version = "v1-{"',
        "deploy.toml:4: [targets.hello] version: `{` is not a placeholder; "
        "known: `{content}`, `{env:NAME}`, `{git_sha}` and `{git_tag}`",
    ),
    "{dir} without for_each": (
        '[targets.hello]\npath = "{dir}/workflow.py"\nall = true',
        "deploy.toml:2: [targets.hello] path: `{dir}` means something only beside `for_each`; "
        'add `for_each = "FOLDERS/*"`, or write it out',
    ),
    "unknown placeholder with for_each": (
        f'{SERVICES}path = "{{folder}}/workflow.py"',
        "deploy.toml:4: [targets.services] path: `{folder}` is not a placeholder; did you mean `{dir}`?",
    ),
    "one path for every folder": (
        f'{SERVICES}path = "hello.py"',
        "deploy.toml:4: [targets.services] path: `hello.py` is the same for every folder; "
        "put `{dir}` or `{name}` into it",
    ),
    "for_each that matches nothing": (
        '[targets.services]\nfor_each = "servces/*"\npath = "{dir}/workflow.py"\nall = true',
        "deploy.toml:2: [targets.services] for_each: no folder matches `servces/*`; "
        "write a pattern relative to the manifest, such as `services/*`",
    ),
    "for_each outside": (
        '[targets.services]\nfor_each = "../*"\npath = "{dir}/workflow.py"\nall = true',
        "deploy.toml:2: [targets.services] for_each: `../*` is outside the manifest's folder; "
        "write a path inside, or move the manifest up",
    ),
    "for_each whose path is nowhere": (
        f'{SERVICES}path = "{{dir}}/flow.py"',
        "deploy.toml:4: [targets.services] path: 3 folders match `services/*`, but `{dir}/flow.py` is in none of them; "
        "correct one of the two",
    ),
    "name that doit cannot take": (
        f'[targets."a:b"]\n{ALL}',
        'deploy.toml:1: [targets."a:b"]: `a:b` cannot name a target; '
        "take a name with no `:`, `=`, `*` or empty part, and no `-` or `_` at its start",
    ),
    "unknown scheme": (
        f'{HELLO}[store]\nurl = "s4://bucket"',
        "deploy.toml:5: [store] url: `s4://bucket` is not a store; write one of `backend`, `s3://BUCKET/PREFIX`, "
        "`gs://BUCKET/PREFIX`, `abfs://CONTAINER/PREFIX` and `./FOLDER`",
    ),
    "bad endpoint": (
        f'{HELLO}[flyte]\nendpoint = "grpc://host"',
        "deploy.toml:5: [flyte] endpoint: `grpc://host` is not an endpoint; "
        "write `dns:///HOST`, `dns:///HOST:PORT` or `https://HOST`",
    ),
}


@pytest.mark.parametrize(("text", "message"), MEANING.values(), ids=MEANING.keys())
def test_a_table_that_makes_no_sense_is_named_with_its_line(repository: Path, text: str, message: str) -> None:
    assert problems(repository, text) == [message]


@pytest.mark.parametrize("name", ["", "-a", "_a", "a=b", "a*", "a//b", "../a", "/a", "a\\tb"])
def test_a_name_that_cannot_be_a_task_is_refused(repository: Path, name: str) -> None:
    assert "cannot name a target" in problems(repository, f'[targets."{name}"]\n{ALL}')[0]


@pytest.mark.parametrize("name", ["a b", "services/a", "a-b_c.d", "ä"])
def test_a_name_that_can_be_a_task_is_taken(repository: Path, name: str) -> None:
    assert list(parse(repository, f'[targets."{name}"]\n{ALL}').targets) == [name]


@pytest.mark.parametrize("url", ["backnd", "s3:/bucket/prefix", "s3://", "s3:///prefix", "file://", "http://host/x"])
def test_a_url_that_is_no_store_is_refused(repository: Path, url: str) -> None:
    text = f'[store]\nurl = "{url}"\n{HELLO}'
    assert problems(repository, text)[0].startswith(f"deploy.toml:2: [store] url: `{url}` is not a store; ")


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(repository: Path) -> None:
    text = (
        '[targets.b]\npath = "b.py"\n\n[targets.a]\npath = "a.py"\nall = true\nversion = "{x}"\n[store]\nurl = "s4:"\n'
    )
    assert [line.partition(": ")[0] for line in problems(repository, text)] == [
        "deploy.toml:1",
        "deploy.toml:2",
        "deploy.toml:5",
        "deploy.toml:7",
        "deploy.toml:9",
    ]


def test_a_problem_of_many_folders_is_reported_once(repository: Path) -> None:
    text = f'{SERVICES}path = "{{dir}}/workflow.py"\nroot_dir = "none"\n'
    assert problems(repository, text) == [
        "deploy.toml:5: [targets.services] root_dir: `none` is not a folder; write the folder that imports start from"
    ]


def test_a_problem_is_placed_in_the_profile_that_causes_it(repository: Path) -> None:
    text = f'{HELLO}[profiles.prod.targets.hello]\nversion = "{{x}}"\n[profiles.dev.targets.hello]\npath = "x.py"\n'
    assert problems(repository, text, profile="prod") == [
        "deploy.toml:5: [profiles.prod.targets.hello] version: `{x}` is not a placeholder; "
        "known: `{content}`, `{env:NAME}`, `{git_sha}` and `{git_tag}`"
    ]


@pytest.mark.parametrize("profile", [{}, {"profile": "prod"}, {"profile": "dev"}], ids=["none", "it", "another"])
def test_a_target_that_only_a_profile_has_must_be_whole(profile: dict[str, str], repository: Path) -> None:
    text = f"{HELLO}[profiles.prod.targets.extra]\nall = true\n[profiles.dev]\n"
    assert problems(repository, text, **profile) == [
        "deploy.toml:4: [profiles.prod.targets.extra]: no target `extra`; correct the name (known: `hello`), "
        "or write a `path` for a target that only this profile has"
    ]
    whole = text.replace("extra]", 'extra]\npath = "hello.py"')
    assert list(parse(repository, whole).targets) == ["hello"]
    assert list(parse(repository, whole, profile="prod").targets) == ["hello", "extra"]


def test_a_key_that_counts_from_elsewhere_is_known_to(repository: Path) -> None:
    over, only = "[profiles.prod.targets.hello]", "[profiles.prod.targets.extra]"
    text = f'{HELLO}{over}\npass_env = []\n{only}\npath = "hello.py"\nall = true\n'
    found = parse(repository, text, profile="prod", version="v1").targets
    places = {key: found["hello"].place(key) for key in ("", "pass_env", "version", "include")}
    assert places == {
        "": "[targets.hello]",
        "pass_env": "[profiles.prod.targets.hello] pass_env",
        "version": "command line: version",
        "include": "[targets.hello] include",
    }
    assert found["extra"].place("include") == "[profiles.prod.targets.extra] include"


def test_a_profile_that_adds_a_second_selection_is_told_so(repository: Path) -> None:
    text = f"{HELLO}[profiles.prod.targets.hello]\nrecursive = true\n"
    assert problems(repository, text, profile="prod")[-1] == (
        "deploy.toml:5: [profiles.prod.targets.hello] recursive: `all` and `recursive` exclude each other; "
        "keep one of them"
    )


def test_an_unknown_profile_is_an_error_with_a_suggestion(repository: Path) -> None:
    with pytest.raises(errors.UnknownProfile) as caught:
        parse(repository, PROFILES, profile="prd")
    assert str(caught.value) == "deploy.toml: no profile `prd`; did you mean `prod`?"
    with pytest.raises(errors.UnknownProfile) as caught:
        parse(repository, HELLO, profile="prod")
    assert str(caught.value) == "deploy.toml: no profile `prod`; there are none"


def test_an_unknown_variable_is_an_error_with_a_suggestion(repository: Path) -> None:
    assert problems(repository, HELLO, profle="prod") == ["command line: no variable `profle`; did you mean `profile`?"]


def test_a_variable_without_a_value_is_an_error(repository: Path) -> None:
    assert problems(repository, HELLO, profile="") == [
        "command line: `profile=` has no value; give one, or leave it out"
    ]


def test_a_bad_placeholder_on_the_command_line_is_an_error(repository: Path) -> None:
    assert problems(repository, HELLO, version="v-{git_sah}") == [
        "command line: version: `{git_sah}` is not a placeholder; did you mean `{git_sha}`?"
    ]


def test_a_syntax_error_has_file_line_and_column(repository: Path) -> None:
    with pytest.raises(errors.ManifestSyntax) as caught:
        parse(repository, "[targets.hello]\npath = hello.py\n")
    assert str(caught.value) == "deploy.toml:2:8: not valid TOML: invalid value; mend the syntax there"
    assert isinstance(caught.value.__cause__, tomli.TOMLDecodeError)


def test_a_missing_manifest_says_what_to_write(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(errors.ManifestMissing) as caught:
        read_manifest(Path("deploy.toml"), {}, {})
    message, _, example = str(caught.value).partition("\n\n")
    assert message == "deploy.toml: no such file; write one, for example:"
    assert list(parse(repository, example).targets) == ["hello"]


def test_an_unreadable_manifest_says_why(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(errors.ManifestUnreadable) as caught:
        read_manifest(Path("services"), {}, {})
    assert str(caught.value) == "services: cannot be read: is a directory; make it a readable UTF-8 file"
    Path("deploy.toml").write_bytes(b"\xff")
    with pytest.raises(errors.ManifestUnreadable) as caught:
        read_manifest(Path("deploy.toml"), {}, {})
    assert str(caught.value) == "deploy.toml: cannot be read: it is not UTF-8; make it a readable UTF-8 file"


def test_the_kept_schema_is_the_one_that_the_types_give() -> None:
    kept = (PROJECT / "docs" / "deploy.schema.json").read_bytes()
    mend = "from flyte_build.manifest import json_schema; write json_schema() to docs/deploy.schema.json"
    assert kept == json_schema(), mend


def test_the_schema_takes_what_the_parser_takes_and_describes_every_key() -> None:
    schema = msgspec.json.decode(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomli.loads(WHOLE), schema)
    jsonschema.validate(tomli.loads(PROFILES), schema)
    tables = ("FlyteTable", "StoreTable", "ImagesTable", "TargetTable")
    keys = {key: about for table in tables for key, about in schema["$defs"][table]["properties"].items()}
    assert all(about.get("description") and about.get("examples") for about in keys.values())


@pytest.mark.parametrize("text", [text for text, _ in SPELLING.values()], ids=SPELLING.keys())
def test_the_schema_refuses_what_the_parser_refuses(text: str) -> None:
    schema = msgspec.json.decode(json_schema())
    assert not jsonschema.Draft202012Validator(schema).is_valid(tomli.loads(text))


def test_reading_a_manifest_imports_nothing_heavy(repository: Path) -> None:
    (repository / "deploy.toml").write_text(HELLO)
    code = (
        "import sys; from pathlib import Path; from flyte_build.manifest import read_manifest;"
        f"read_manifest(Path({str(repository / 'deploy.toml')!r}), {{}}, {{}}); print(sorted(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert not {"flyte", "google.protobuf", "boto3", "yaml", "docker", "pathspec"} & set(ast.literal_eval(run.stdout))
