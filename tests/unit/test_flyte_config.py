"""Flyte's configuration, found and read as the SDK does: each case is put to the SDK too, and must give the same."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flyte.config
import pytest
from flyte._utils import org_from_endpoint, sanitize_endpoint
from flyte.config._reader import get_config_file, resolve_config_path

from flyte_build import errors
from flyte_build.flyte_config import find_flyte_config, normal_endpoint, organization_of, read_flyte_config
from flyte_build.manifest import Manifest, parse_manifest
from flyte_build.model import BackendSettings, ImageSettings

HELLO = '[targets.hello]\npath = "hello.py"\nall = true\n'

VARIABLES = (
    "FLYTE_ADMIN_ENDPOINT",
    "FLYTE_ADMIN_INSECURE",
    "FLYTE_TASK_PROJECT",
    "FLYTE_TASK_DOMAIN",
    "FLYTE_TASK_ORG",
    "FLYTE_IMAGE_BUILDER",
    "FLYTE_IMAGE_REGISTRY",
    "FLYTE_IMAGE_IMAGE_REFS",
    "FLYTE_API_KEY",
    "UCTL_CONFIG",
    "FLYTECTL_CONFIG",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, a current folder without a config file, and none of Flyte's variables."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project/hello.py").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "project")
    get_config_file.cache_clear()
    return tmp_path / "home"


def as_the_sdk_reads(path: Path) -> dict[str, dict[str, Any]]:
    """What the SDK makes of a config file, under our names, without what is not set."""
    config = flyte.config.auto(path)
    platform, task, image = config.platform, config.task, config.image
    flyte_table: dict[str, Any] = {
        "endpoint": platform.endpoint,
        "project": task.project,
        "domain": task.domain,
        "org": task.org,
    }
    images: dict[str, Any] = {"builder": image.builder, "registry": image.registry, "refs": image.image_refs}
    return {
        "flyte": {key: value for key, value in flyte_table.items() if value} | {"insecure": bool(platform.insecure)},
        "images": {key: value for key, value in images.items() if value},
    }


FILES = {
    "whole": """\
admin:
  endpoint: dns:///flyte.example.com
  insecure: true
  authType: Pkce
image:
  builder: remote
  registry: ghcr.io/org
  image_refs:
    base: ghcr.io/org/base:v1
    default: ghcr.io/org/default:v1
task:
  org: acme
  project: flytesnacks
  domain: staging
""",
    "endpoint alone": "admin:\n  endpoint: localhost:8090\n",
    "secure": "admin:\n  endpoint: localhost:8090\n  insecure: false\n",
    "no endpoint": "task:\n  project: p\n",
    "empty": "",
    "only a comment": "# nothing\n",
    "empty tables": "admin:\ntask:\nimage:\n",
    "empty values": 'admin:\n  endpoint: ""\ntask:\n  project:\n  domain: ""\nimage:\n  image_refs: {}\n',
    "a list where a table is meant": "admin:\n  - endpoint: x\ntask:\n  domain: d\n",
    "text where a table is meant": "admin: localhost\ntask:\n  domain: d\n",
    "keys of others": "console:\n  endpoint: x\nlogger:\n  level: 1\nimage:\n  builder: local\n",
    "a builder of the SDK alone": "image:\n  builder: local-podman\n",
    "YAML of many forms": "{admin: {endpoint: 'http://h:1/'}, task: {project: \"a b\", domain: !!str 5}}\n",
    "anchors": "x: &t\n  project: p\n  domain: d\ntask: *t\n",
    "a top that is a list": "- admin\n",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_a_file_is_read_as_the_sdk_reads_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    found = read_flyte_config(path, {})
    assert {"flyte": {"insecure": False} | found["flyte"], "images": found["images"]} == as_the_sdk_reads(path)


ENVIRONMENTS: dict[str, Mapping[str, str]] = {
    "endpoint": {"FLYTE_ADMIN_ENDPOINT": "dns:///elsewhere"},
    "insecure": {"FLYTE_ADMIN_INSECURE": "true"},
    "task": {"FLYTE_TASK_PROJECT": "p", "FLYTE_TASK_DOMAIN": "d", "FLYTE_TASK_ORG": "o"},
    "image": {"FLYTE_IMAGE_BUILDER": "local", "FLYTE_IMAGE_REGISTRY": "localhost:5000"},
    "an empty one hides the file's": {"FLYTE_TASK_PROJECT": "", "FLYTE_ADMIN_ENDPOINT": "", "FLYTE_ADMIN_INSECURE": ""},
    "of other settings": {"FLYTE_AUTH_TYPE": "DeviceFlow", "FLYTE_ADMIN_CLIENTID": "x", "FLYTE_PROJECT": "p"},
}


@pytest.mark.parametrize("text", [FILES["whole"], FILES["empty"]], ids=["whole", "empty"])
@pytest.mark.parametrize("environ", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_variables_come_before_the_file_as_in_the_sdk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, environ: Mapping[str, str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = read_flyte_config(path, environ)
    assert {"flyte": {"insecure": False} | found["flyte"], "images": found["images"]} == as_the_sdk_reads(path)


PLACES = [
    "project/config.yaml",
    "project/.flyte/config.yaml",
    ".flyte/config.yaml",
    "uctl.yaml",
    "flytectl.yaml",
    "home/.union/config.yaml",
    "home/.flyte/config.yaml",
]


@pytest.mark.parametrize("first", range(len(PLACES)), ids=PLACES)
def test_auto_finds_the_file_that_the_sdk_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for place in PLACES[first:]:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"task:\n  project: {place}\n")
    environ = {"HOME": str(tmp_path / "home")}
    for variable, place in (("UCTL_CONFIG", "uctl.yaml"), ("FLYTECTL_CONFIG", "flytectl.yaml")):
        if (tmp_path / place).exists():
            environ[variable] = str(tmp_path / place)
            monkeypatch.setenv(variable, environ[variable])
    theirs = resolve_config_path()
    assert theirs is not None
    ours = find_flyte_config(tmp_path / "project", environ)
    assert ours == theirs.absolute() == tmp_path / PLACES[first]
    assert read_flyte_config(ours, {})["flyte"] == {"project": flyte.config.auto().task.project}


def test_auto_finds_nothing_where_the_sdk_finds_nothing(tmp_path: Path, home: Path) -> None:
    assert resolve_config_path() is None
    assert find_flyte_config(tmp_path / "project", {"HOME": str(home)}) is None
    environ = {"HOME": str(home), "FLYTE_TASK_PROJECT": "ignored without a file, as by the SDK"}
    assert parse(tmp_path, 'config = "auto"', environ).backend == BackendSettings()


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "h",
        "h:1",
        "h/",
        "dns:///h:1",
        "dns:///h/",
        "http://h",
        "https://a.b.c/",
        "https:///h",
        "127.0.0.1:80",
        "a.b",
    ],
)
def test_an_endpoint_and_its_organization_are_the_sdks(endpoint: str) -> None:
    normal = normal_endpoint(endpoint)
    assert normal == (sanitize_endpoint(endpoint) or "")
    assert organization_of(normal) == (org_from_endpoint(normal) or "")


def parse(tmp_path: Path, flyte_table: str, environ: Mapping[str, str], rest: str = "") -> Manifest:
    text = f"[flyte]\n{flyte_table}\n{rest}\n{HELLO}"
    return parse_manifest(text, file="deploy.toml", folder=tmp_path / "project", variables={}, environ=environ)


def test_a_named_file_gives_backend_and_images(tmp_path: Path) -> None:
    (tmp_path / "project/flyte.yaml").write_text(FILES["whole"])
    manifest = parse(tmp_path, 'config = "flyte.yaml"', {})
    assert manifest.backend == BackendSettings(
        endpoint="dns:///flyte.example.com",
        insecure=True,
        project="flytesnacks",
        domain="staging",
        org="acme",
        config=str(tmp_path / "project/flyte.yaml"),
    )
    assert manifest.images == ImageSettings(
        builder="remote",
        registry="ghcr.io/org",
        default="ghcr.io/org/default:v1",
        refs={"base": "ghcr.io/org/base:v1", "default": "ghcr.io/org/default:v1"},
    )
    assert manifest.store.url == "backend"


def test_the_tables_win_over_the_file_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "project/flyte.yaml").write_text(FILES["whole"])
    images = '[images]\nbuilder = "local"\ndefault = "mine:v1"\nrefs = { other = "other:v1" }\n'
    manifest = parse(tmp_path, 'config = "flyte.yaml"\nendpoint = "localhost:8090"\ninsecure = false', {}, images)
    assert manifest.backend == BackendSettings(
        endpoint="dns:///localhost:8090",
        project="flytesnacks",
        domain="staging",
        org="acme",
        config=str(tmp_path / "project/flyte.yaml"),
    )
    assert manifest.images.builder == "local"
    assert manifest.images.registry == "ghcr.io/org"
    assert manifest.images.refs == {"base": "ghcr.io/org/base:v1", "default": "mine:v1", "other": "other:v1"}


def test_without_config_no_file_and_no_variable_counts(tmp_path: Path) -> None:
    (tmp_path / "project/config.yaml").write_text(FILES["whole"])
    assert (
        parse(tmp_path, "", {"FLYTE_ADMIN_ENDPOINT": "h", "FLYTE_API_KEY": api_key("h")}).backend == BackendSettings()
    )


def test_a_config_of_the_home_folder_is_written_with_a_tilde(tmp_path: Path, home: Path) -> None:
    (home / "flyte.yaml").write_text(FILES["endpoint alone"])
    assert parse(tmp_path, 'config = "~/flyte.yaml"', {}).backend.endpoint == "dns:///localhost:8090"


def api_key(endpoint: str, org: str = "") -> str:
    return base64.b64encode(f"{endpoint}:client:secret:{org}".encode()).decode()


def test_an_api_key_comes_before_the_file_and_after_the_table(tmp_path: Path) -> None:
    (tmp_path / "project/config.yaml").write_text(FILES["whole"])
    environ = {"FLYTE_API_KEY": api_key("key.example.com", "keyed")}
    backend = parse(tmp_path, 'config = "auto"', environ).backend
    assert (backend.endpoint, backend.org, backend.domain) == ("dns:///key.example.com", "keyed", "staging")
    backend = parse(tmp_path, 'config = "auto"\nendpoint = "table.example.com"', environ).backend
    assert backend.endpoint == "dns:///table.example.com"


def test_an_api_key_alone_is_enough_for_auto(tmp_path: Path, home: Path) -> None:
    environ = {"FLYTE_API_KEY": api_key("key.example.com", "None"), "HOME": str(home)}
    backend = parse(tmp_path, 'config = "auto"', environ).backend
    assert (backend.endpoint, backend.org, backend.config) == ("dns:///key.example.com", "key", "")


@pytest.mark.parametrize(
    ("word", "expected"), [("true", True), ("1", True), ("false", False), ("False", False), ("0", False)]
)
def test_a_variable_that_says_false_means_it(tmp_path: Path, word: str, expected: bool) -> None:
    (tmp_path / "project/config.yaml").write_text("admin:\n  insecure: true\n")
    backend = parse(tmp_path, 'config = "config.yaml"', {"FLYTE_ADMIN_INSECURE": word}).backend
    assert backend.insecure is expected


INVALID = {
    "not YAML": ("admin: [1\ntask: 2", {}, "config.yaml:2: not valid YAML: {yaml}; mend the syntax there"),
    "project is a number": (
        "task:\n  project: 5",
        {},
        "config.yaml: task.project: expected text; put it in quotes",
    ),
    "insecure is text": (
        "admin:\n  insecure: perhaps",
        {},
        "config.yaml: admin.insecure: expected true or false; write `true` or `false`",
    ),
    "insecure of the environment": (
        "",
        {"FLYTE_ADMIN_INSECURE": "perhaps"},
        "FLYTE_ADMIN_INSECURE: expected true or false; write `true` or `false`",
    ),
    "image references that are a list": (
        "image:\n  image_refs: [a, b]",
        {},
        "config.yaml: image.image_refs: expected a mapping of names to images; "
        "write lines such as `base: ghcr.io/org/base:v1` in a config file",
    ),
    "image references of the environment": (
        "",
        {"FLYTE_IMAGE_IMAGE_REFS": "a=b"},
        "FLYTE_IMAGE_IMAGE_REFS: expected a mapping of names to images; "
        "write lines such as `base: ghcr.io/org/base:v1` in a config file",
    ),
    "endpoint": (
        "admin:\n  endpoint: grpc://h",
        {},
        "config.yaml: admin.endpoint: `grpc://h` is not an endpoint; "
        "write `dns:///HOST`, `dns:///HOST:PORT` or `https://HOST`",
    ),
    "API key": ("", {"FLYTE_API_KEY": "secret!"}, "FLYTE_API_KEY: not an API key; correct it, or unset it"),
    "bytes": ("\x00", {}, "config.yaml: cannot be read: ReaderError; make it a readable YAML file"),
}


@pytest.mark.parametrize(("text", "environ", "message"), INVALID.values(), ids=INVALID.keys())
def test_a_value_that_the_sdk_would_stumble_over_is_named(
    tmp_path: Path, text: str, environ: Mapping[str, str], message: str
) -> None:
    (tmp_path / "project/config.yaml").write_text(text)
    with pytest.raises(errors.ManifestProblem) as caught:
        parse(tmp_path, 'config = "config.yaml"', environ)
    reason = "expected ',' or ']', but got ':'"
    assert str(caught.value) == message.replace("{yaml}", reason)


def test_a_builder_that_only_the_sdk_has_is_refused_unless_the_table_names_another(tmp_path: Path) -> None:
    (tmp_path / "project/config.yaml").write_text(FILES["a builder of the SDK alone"])
    with pytest.raises(errors.ManifestProblems) as caught:
        parse(tmp_path, 'config = "config.yaml"', {})
    assert str(caught.value) == (
        "config.yaml: image.builder: `local-podman` is not a builder that can be used; "
        "set `builder` of [images] to `local` or `remote`"
    )
    assert parse(tmp_path, 'config = "config.yaml"', {}, '[images]\nbuilder = "local"').images.builder == "local"


def test_a_missing_file_is_named_with_the_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(errors.FlyteConfigMissing) as caught:
        parse(tmp_path, 'config = "flyte.yaml"', {})
    assert str(caught.value) == (
        "deploy.toml:2: [flyte] config: no Flyte config file `flyte.yaml`; "
        "correct the path, or make it with `flyte create config`"
    )


def test_a_missing_file_is_named_with_the_variable_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(errors.FlyteConfigMissing) as caught:
        parse(tmp_path, 'config = "auto"', {"UCTL_CONFIG": "gone.yaml"})
    assert str(caught.value) == (
        "UCTL_CONFIG: no Flyte config file `gone.yaml`; correct the path, or make it with `flyte create config`"
    )
