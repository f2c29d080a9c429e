"""What is registered must equal, field by field, what the SDK's own `flyte deploy` sends for the same files.

Three things may differ, and are put aside before the comparison: the version, the bundle's URI, and the value of
`_F_SYS_PATH`. The version of a reusable container is a digest over the last two, so each side's is checked against
the SDK's own function instead. An image cache (JSON, gzipped, in base64) is compared by what it says: the SDK writes it
in the order in which the file system lists files.
"""

from __future__ import annotations

import ast
import base64
import fcntl
import gzip
import inspect
import json
import operator
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flyte
import pytest
from flyte._internal.runtime.reuse import extract_unique_id_and_image
from flyte.extras import ContainerTask
from flyte.models import CodeBundle
from flyteidl2.task.task_service_pb2 import DeployTaskRequest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from flyte_build import pipeline
from flyte_build.binding import Binding
from flyte_build.manifest import read_manifest
from flyte_build.model import Discovery, Target
from flyte_build.project import Project
from flyte_build.steps import deploy, discover, images, serialize
from tests.peer import PeerDeploy, peer_deploy

PROJECTS = Path(__file__).parent.parent / "projects"
FILES = PROJECTS / "differential"
REFERENCE = ("--image", "base=ghcr.io/org/ref:v9")
MANIFEST = """
[images.refs]
base = "ghcr.io/org/ref:v9"

[targets.all]
"""
ABSENT = "absent"


def ours(project: Path, peer: PeerDeploy) -> dict[str, DeployTaskRequest]:
    """What we register for the target of `project`'s deploy.toml, bound to the peer's version and bundle, by task."""
    manifest = read_manifest(project / "deploy.toml", {}, os.environ)
    work = Project(manifest, os.environ, {})
    target = manifest.targets["all"]
    for step in ("discover", "images"):
        pipeline.run(work, target, step)
    discovery = discover.load(work, target)
    uris = work.result(target.name, images.NAME, images.Result).uris
    bindings = {name: _binding_of(request, uris, peer) for name, request in peer.requests.items()}
    distinct = {binding.json(): binding for binding in bindings.values()}
    bound = {text: _bound(work, target, discovery, binding) for text, binding in distinct.items()}
    return {name: bound[binding.json()][name] for name, binding in bindings.items()}


def _binding_of(request: DeployTaskRequest, uris: dict[str, str], peer: PeerDeploy) -> Binding:
    bundle = peer.bundle_of(request.task_id.name)
    return Binding(
        version=request.task_id.version,
        project=request.task_id.project,
        domain=request.task_id.domain,
        org=request.task_id.org,
        images=uris,
        bundle_uri=bundle.uri if bundle else "",
        bundle_version=bundle.md5 if bundle else "",
    )


def _bound(work: Project, target: Target, discovery: Discovery, binding: Binding) -> dict[str, DeployTaskRequest]:
    registrations = serialize.with_links(serialize.bind(discovery, binding), discovery, work, target)
    return {r.name: deploy.request(r) for wave in registrations.waves for r in wave}


# --- the comparison ------------------------------------------------------------------------------------------------


class Leaf(NamedTuple):
    """One set field that holds no further fields, and how to change it."""

    path: str
    value: Any
    assign: Callable[[Any], None]
    drop: Callable[[], None]


def leaves(message: Message, prefix: str = "") -> Iterator[Leaf]:
    """Every leaf of a message, with presence: a submessage that is set but empty is a leaf too."""
    for field, value in message.ListFields():
        path = f"{prefix}.{field.name}".lstrip(".")
        if _is_map(field):
            for key in sorted(value):
                yield from _element(value, key, f"{path}[{key!r}]")
        elif field.is_repeated:
            for index in range(len(value)):
                yield from _element(value, index, f"{path}[{index}]")
        elif isinstance(value, Message):
            yield from _message(value, path, partial(message.ClearField, field.name))
        else:
            yield Leaf(path, value, partial(setattr, message, field.name), partial(message.ClearField, field.name))


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _message(value: Message, path: str, drop: Callable[[], None]) -> Iterator[Leaf]:
    if value.ListFields():
        yield from leaves(value, path)
    else:
        yield Leaf(path, {}, lambda _: drop(), drop)


def _element(container: Any, key: Any, path: str) -> Iterator[Leaf]:
    value, drop = container[key], partial(operator.delitem, container, key)
    if isinstance(value, Message):
        yield from _message(value, path, drop)
    else:
        yield Leaf(path, value, partial(operator.setitem, container, key), drop)


def comparable(request: DeployTaskRequest, bundle_version: str) -> dict[str, Any]:
    """Leaves by path, with the three things put aside. `bundle_version` is what the SDK calls computed version."""
    version, bundle = request.task_id.version, request.spec.task_template.metadata.code_bundle_uri
    fields: dict[str, Any] = {}
    for leaf in leaves(request):
        value = leaf.value
        if isinstance(value, str):
            value = _unpacked(value)
            value = value.replace(bundle, "BUNDLE") if bundle else value
            value = value.replace(version, "VERSION") if version else value
        fields[leaf.path] = value
    for path in [path for path, value in fields.items() if value == "_F_SYS_PATH"]:
        fields[re.sub(r"key$", "value", path.replace("['name']", "['value']"))] = "SYS_PATH"
    actor = "spec.task_template.custom.fields['version'].string_value"
    if request.spec.task_template.type == "actor" and fields.get(actor) == _actor_version(request, bundle_version):
        fields[actor] = "ACTOR_VERSION"
    return fields


def _unpacked(value: str) -> str:
    """The text of an image cache with its keys sorted; anything else as it is."""
    try:
        packed = base64.b64decode(value, validate=True) if value.startswith("H4sI") else b""
        return json.dumps(json.loads(gzip.decompress(packed)), sort_keys=True) if packed else value
    except ValueError:
        return value


def _actor_version(request: DeployTaskRequest, bundle_version: str) -> str | None:
    """The version that the message's own container, policy and so on must have; None for an impossible policy."""
    task, policy = request.spec.task_template, request.spec.task_template.reuse_policy
    try:
        reuse = flyte.ReusePolicy(
            replicas=(policy.min_replicas, policy.max_replicas),
            idle_ttl=timedelta(seconds=policy.idle_ttl.seconds),
            scaledown_ttl=timedelta(seconds=policy.scaledown_ttl.seconds),
        )
    except ValueError:
        return None
    environment = task.custom.fields["name"].string_value
    bundle = CodeBundle(tgz="bundle", computed_version=bundle_version)
    return extract_unique_id_and_image(environment, bundle, task, reuse)[0][:15]


def differences(peer: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    """`path: peer value / our value` for each field that differs."""
    paths = [*peer, *(path for path in mine if path not in peer)]
    return [
        f"{path}: peer {_shown(peer, path)} / ours {_shown(mine, path)}"
        for path in paths
        if path not in peer or path not in mine or peer[path] != mine[path]
    ]


def _shown(fields: dict[str, Any], path: str) -> str:
    return repr(fields[path]) if path in fields else ABSENT


def assert_same(peer: PeerDeploy, mine: dict[str, DeployTaskRequest], tasks: set[str]) -> None:
    found = []
    for task in sorted(tasks):
        bundle = peer.bundle_of(task)
        version = bundle.md5 if bundle else ""
        theirs, our = comparable(peer.requests[task], version), comparable(mine[task], version)
        found += [f"{task}: {line}" for line in differences(theirs, our)]
    assert not found, "\n".join(found)


# --- the projects --------------------------------------------------------------------------------------------------


def project_with(folder: Path, manifest: str, files: tuple[str, ...] = (), into: str = ".") -> Path:
    """A copy of the project (or of some of its files, in a folder of it) with a deploy.toml."""
    if files:
        for file in files:
            (folder / into / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FILES / file, folder / into / file)
    else:
        shutil.copytree(FILES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "deploy.toml").write_text(MANIFEST + manifest)
    return folder


def tasks_by_file(peer: PeerDeploy, project: Path) -> dict[str, set[str]]:
    """The tasks of each file's environments; asked of a process of its own, since names may be computed."""
    code = (
        "import everything, flyte, json;"
        "print(json.dumps({m.__name__: [v.name for v in vars(m).values() if isinstance(v, flyte.Environment)]"
        " for m in everything.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    by_file = {}
    for module, names in json.loads(done.stdout.splitlines()[-1]).items():
        short = {name[:63] for name in names}
        tasks = {task for task, request in peer.requests.items() if request.spec.environment.name in short}
        by_file[f"{module.replace('.', '/')}.py"] = tasks
    return by_file


class Whole(NamedTuple):
    project: Path
    peer: PeerDeploy
    tasks: dict[str, set[str]]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """All files in one deploy; made once, also when several workers run the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = shared / "differential.pickle"
    with (shared / "differential.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            project = project_with(shared / "differential", 'path = "everything.py"\nenvironment = "env"\n')
            peer = peer_deploy(project, *REFERENCE, "everything.py", "env")
            cache.write_bytes(pickle.dumps(Whole(project, peer, tasks_by_file(peer, project))))
    saved: Whole = pickle.loads(cache.read_bytes())
    return saved


@pytest.fixture(scope="session")
def mine(whole: Whole) -> dict[str, DeployTaskRequest]:
    return ours(whole.project, whole.peer)


def declaring_files() -> list[str]:
    """Files that make environments or tasks."""
    files = (path for path in sorted(FILES.rglob("*.py")) if path.name != "everything.py")
    declaring = re.compile(r"TaskEnvironment\(|\.task\b|from_task\(")
    return [path.relative_to(FILES).as_posix() for path in files if declaring.search(path.read_text())]


# --- our side against the peer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", declaring_files())
def test_every_field_equals_what_flyte_deploy_sends(
    file: str, whole: Whole, mine: dict[str, DeployTaskRequest]
) -> None:
    assert_same(whole.peer, mine, whole.tasks[file])


def test_the_same_tasks_are_registered(whole: Whole, mine: dict[str, DeployTaskRequest]) -> None:
    assert sorted(mine) == sorted(whole.peer.requests)


class Case(NamedTuple):
    """One way to deploy: the same said to us in deploy.toml and to the peer on its command line."""

    manifest: str
    args: tuple[str, ...]
    files: tuple[str, ...]
    into: str = "."
    git: bool = False


CHAIN = ("chain_upstream.py", "chain_downstream.py")
CASES = {
    "recursive": Case(
        'path = "."\nrecursive = true\n',
        ("--recursive", "."),
        ("minimal.py", "several_environments.py", *CHAIN),
    ),
    "all-of-a-file": Case(
        'path = "chain_downstream.py"\nall = true\n',
        ("--all", "chain_downstream.py"),
        CHAIN,
    ),
    "no-code": Case(
        'path = "cache_behaviours.py"\nall = true\ncopy_style = "none"\nversion = "v1"\n',
        ("--copy-style", "none", "--version", "v1", "--all", "cache_behaviours.py"),
        ("cache_behaviours.py",),
    ),
    "all-files": Case(
        'path = "minimal.py"\nenvironment = "env"\ncopy_style = "all"\n',
        ("--copy-style", "all", "minimal.py", "env"),
        ("minimal.py", "documented.py"),
    ),
    "default-image": Case(
        'path = "image_uris.py"\nall = true\n[images]\ndefault = "ghcr.io/org/default:v3"\n',
        ("--image", "ghcr.io/org/default:v3", "--all", "image_uris.py"),
        ("image_uris.py",),
    ),
    "no-sys-path": Case(
        'path = "minimal.py"\nenvironment = "env"\nsync_local_sys_paths = false\n',
        ("--no-sync-local-sys-paths", "minimal.py", "env"),
        ("minimal.py",),
    ),
    "nested": Case(
        'path = "nested/deeper/workflow.py"\nall = true\n',
        ("--all", "nested/deeper/workflow.py"),
        (
            "nested/__init__.py",
            "nested/helpers.py",
            "nested/deeper/__init__.py",
            "nested/deeper/workflow.py",
            "support/__init__.py",
            "support/late.py",
        ),
    ),
    "root-dir": Case(
        'path = "src/chain_downstream.py"\nenvironment = "downstream"\nroot_dir = "src"\n',
        ("--root-dir", "src", "src/chain_downstream.py", "downstream"),
        CHAIN,
        into="src",
    ),
    "source-links": Case(
        'path = "wrapped_functions.py"\nenvironment = "env"\n',
        ("wrapped_functions.py", "env"),
        ("wrapped_functions.py",),
        git=True,
    ),
}


def make_repository(project: Path) -> None:
    """One commit, and a remote that source links can be made from."""
    identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
    for command in (
        ("init", "--quiet"),
        ("remote", "add", "origin", "https://github.com/org/repo.git"),
        ("add", "--all"),
        (*identity, "commit", "--quiet", "--message", "all", "--no-gpg-sign"),
    ):
        subprocess.run(["git", *command], cwd=project, check=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_way_to_deploy_gives_what_flyte_deploy_sends(case: Case, tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", case.manifest, case.files, case.into)
    if case.git:
        make_repository(project)
    peer = peer_deploy(project, *case.args)
    registered = ours(project, peer)
    assert sorted(registered) == sorted(peer.requests)
    assert_same(peer, registered, set(peer.requests))


# --- the comparison and the files themselves -----------------------------------------------------------------------


def _shape(path: str) -> str:
    return re.sub(r"\[\d+\]", "[]", path)


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if value == value + 0 and abs(value) < 1e15 else 1
    return value + (b"!" if isinstance(value, bytes) else "!")


def _mutants(whole: Whole) -> Iterator[tuple[str, DeployTaskRequest, DeployTaskRequest]]:
    """Each shape of path once, changed and dropped: the path, a request that has it, and that request afterwards."""
    seen: set[str] = set()
    for task in sorted(whole.peer.requests):
        request = whole.peer.requests[task]
        fields = comparable(request, "")
        for path in [leaf.path for leaf in leaves(request)]:
            if _shape(path) in seen or fields[path] == "SYS_PATH":
                continue
            seen.add(_shape(path))
            for how in ("change", "drop"):
                mutant = DeployTaskRequest()
                mutant.CopyFrom(request)
                leaf = next(leaf for leaf in leaves(mutant) if leaf.path == path)
                leaf.drop() if how == "drop" else leaf.assign(_changed(leaf.value) if leaf.value != {} else None)
                yield path, request, mutant


def test_the_comparison_notices_a_difference_in_any_field(whole: Whole) -> None:
    unnoticed, count = [], 0
    for path, request, mutant in _mutants(whole):
        bundle = whole.peer.bundle_of(request.task_id.name)
        assert bundle
        found = differences(comparable(request, bundle.md5), comparable(mutant, bundle.md5))
        count += 1
        if not found:
            unnoticed.append(path)
    assert count > 500
    assert unnoticed == []


def test_a_difference_is_told_with_path_and_both_values(whole: Whole) -> None:
    request = whole.peer.requests["documented.google"]
    mutant = DeployTaskRequest()
    mutant.CopyFrom(request)
    mutant.spec.short_name = "other"
    mutant.spec.ClearField("environment")
    assert differences(comparable(request, ""), comparable(mutant, "")) == [
        "spec.short_name: peer 'google' / ours 'other'",
        "spec.environment.name: peer 'documented' / ours absent",
        "spec.environment.description: peer 'Shows how   docstrings\\nare read' / ours absent",
    ]


def test_only_version_bundle_and_sys_path_are_put_aside(whole: Whole) -> None:
    request = whole.peer.requests["reuse_ranged.cached_worker"]
    bundle = whole.peer.bundle_of("reuse_ranged.cached_worker")
    assert bundle
    raw = {leaf.path: leaf.value for leaf in leaves(request)}
    aside = {path: value for path, value in comparable(request, bundle.md5).items() if raw[path] != value}
    args = {path: value for path, value in aside.items() if ".args[" in path}
    image_cache = next(path for path in args if raw[path].startswith("H4sI"))
    assert json.loads(args.pop(image_cache))["image_lookup"]["image_based"] == "ghcr.io/org/base:v2"
    assert sorted(args.values()) == ["BUNDLE", "VERSION"]
    assert {path: value for path, value in aside.items() if path not in args and path != image_cache} == {
        "task_id.version": "VERSION",
        "spec.task_template.id.version": "VERSION",
        "spec.task_template.metadata.code_bundle_uri": "BUNDLE",
        "spec.task_template.container.env[1].value": "SYS_PATH",
        "spec.task_template.custom.fields['version'].string_value": "ACTOR_VERSION",
    }


def test_each_file_has_tasks_that_are_compared(whole: Whole) -> None:
    assert len(declaring_files()) >= 28
    assert [file for file in declaring_files() if not whole.tasks[file]] == []
    assert set().union(*whole.tasks.values()) == set(whole.peer.requests)


def test_the_peer_sends_a_source_link_for_a_repository_with_a_remote(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", "", ("minimal.py",))
    make_repository(project)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    peer = peer_deploy(project, "minimal.py", "env")
    link = peer.requests["minimal.sync_task"].spec.documentation.source_code.link
    assert link == f"https://github.com/org/repo/blob/{commit.stdout.strip()}/minimal.py#L9"


SIGNATURES: dict[str, Callable[..., Any]] = {
    "TaskEnvironment": flyte.TaskEnvironment,
    "task": flyte.TaskEnvironment.task,
    "clone_with": flyte.TaskEnvironment.clone_with,
    "from_task": flyte.TaskEnvironment.from_task,
    "Resources": flyte.Resources,
    "Device": flyte.Device,
    "GPU": flyte.GPU,
    "TPU": flyte.TPU,
    "Cache": flyte.Cache,
    "RetryStrategy": flyte.RetryStrategy,
    "Backoff": flyte.Backoff,
    "Timeout": flyte.Timeout,
    "Secret": flyte.Secret,
    "PodTemplate": flyte.PodTemplate,
    "ReusePolicy": flyte.ReusePolicy,
    "Documentation": flyte.Documentation,
    "Trigger": flyte.Trigger,
    "Cron": flyte.Cron,
    "FixedRate": flyte.FixedRate,
    "OnArtifact": flyte.OnArtifact,
    "TriggeredPartition": flyte.TriggeredPartition,
    "ContainerTask": ContainerTask,
}
_LOCAL_ONLY = {"local_logs"}
"""Parameters that no deployed message carries."""


def _parameters(name: str) -> list[str]:
    signature = inspect.signature(SIGNATURES[name])
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [key for key, value in signature.parameters.items() if key != "self" and value.kind not in variable]


def _used_parameters(name: str) -> set[str]:
    """Parameters of `name` that some call in the project's files gives, by keyword or by position."""
    used: set[str] = set()
    for path in FILES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called == name:
                used.update(keyword.arg for keyword in node.keywords if keyword.arg)
                used.update(_parameters(name)[: len(node.args)])
    return used


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_parameter_of_the_sdk_is_used_by_a_file(name: str) -> None:
    assert sorted(set(_parameters(name)) - _used_parameters(name) - _LOCAL_ONLY) == []
