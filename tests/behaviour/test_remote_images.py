"""Images that the backend builds: a real client, and a control plane whose image builder does as the test says."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from flyteidl2.common import phase_pb2
from flyteidl2.core import security_pb2
from flyteidl2.imagebuilder.definition_pb2 import ImageSpec

from flyte_build.backend.embedded import EmbeddedBackend
from flyte_build.builders.remote import PAUSES, RemoteBuilder
from flyte_build.errors import (
    BackendFailed,
    BackendUnreachable,
    BuildError,
    NotLoggedIn,
    NotPermitted,
    RemoteBuildAborted,
    RemoteBuilderIncompatible,
    RemoteBuilderMissing,
    RemoteBuildFailed,
    RemoteBuildWithoutImage,
    StateUnwritable,
    StoreAccessDenied,
)
from flyte_build.model import BackendSettings, BuildSecret
from tests.image_builder_service import ImageBuilderServer, Outcome, builder_task, image_builder
from tests.recording import RecordingServer
from tests.repository import Repository, environment, small

SPEC = ImageSpec(base_image="debian:12", python_version="3.11").SerializeToString()
NAME = "fraud:abc123"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageBuilderServer]:
    with ImageBuilderServer(tmp_path / "backend") as running:
        yield running


def settings(server: RecordingServer, **more: Any) -> BackendSettings:
    return BackendSettings(endpoint=server.endpoint, insecure=True, **more)


def build(server: RecordingServer, *, context: Path | None = None, **more: Any) -> tuple[str, list[str]]:
    """The image, and the URLs that were shown."""
    urls: list[str] = []
    wanted = {"name": NAME, "spec": SPEC, "secrets": (), "started": urls.append, **more}
    with image_builder(settings(server)) as builder:
        return builder.build(context=context, **wanted), urls


def find(settings: BackendSettings, name: str) -> str:
    with image_builder(settings) as builder:
        return builder.find(name)


def build_patiently(server: RecordingServer, **how: Any) -> str:
    """The image, built by a `RemoteBuilder` that is made so."""
    with image_builder(settings(server), **how) as builder:
        return builder.build(name=NAME, spec=SPEC, context=None, secrets=(), started=lambda _: None)


def message_of(server: RecordingServer, kind: type[BuildError], **more: Any) -> str:
    with pytest.raises(kind) as caught:
        build(server, **more)
    return str(caught.value)


def url(server: RecordingServer, run: str = "run1") -> str:
    host = server.endpoint.removeprefix("dns:///")
    return f"http://{host}/v2/domain/development/project/flytesnacks/runs/{run}"


def tar(folder: Path) -> Path:
    """A context of one file that does not shrink, and one that does."""
    path = folder / "context.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {"src/main.py": b"x = 1\n" * 100_000, "empty": b""}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


# --- finding -------------------------------------------------------------------------------------------------------


def test_an_image_that_the_backend_knows_is_found_without_a_build(server: ImageBuilderServer) -> None:
    server.images[NAME] = f"registry.example.com/{NAME}@sha256:1"

    assert find(settings(server, org="acme"), NAME) == f"registry.example.com/{NAME}@sha256:1"
    assert find(settings(server), f"ghcr.io/org/{NAME}") == f"registry.example.com/{NAME}@sha256:1"
    [first, _] = server.requests("GetImage")
    assert (first.organization, first.project_id.organization) == ("acme", "acme")
    assert (first.project_id.name, first.project_id.domain) == ("flytesnacks", "development")
    assert server.counts == {"SelectCluster": 2, "GetImage": 2}


def test_an_image_that_the_backend_does_not_know_is_absent(server: ImageBuilderServer) -> None:
    assert find(settings(server), NAME) == ""


@pytest.mark.parametrize("call", ["GetImage", "SelectCluster"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.UNAUTHENTICATED, NotLoggedIn),
        (Code.PERMISSION_DENIED, NotPermitted),
        (Code.INTERNAL, BackendFailed),
        (Code.UNIMPLEMENTED, RemoteBuilderMissing),
    ],
    ids=lambda value: value.value if isinstance(value, Code) else "",
)
def test_not_to_know_whether_an_image_exists_is_an_error(
    server: ImageBuilderServer, call: str, code: Code, kind: type[BuildError]
) -> None:
    server.images[NAME] = "registry.example.com/it-is-there"
    server.fail(call, code)
    with pytest.raises(kind):
        find(settings(server), NAME)


def test_a_failure_that_may_pass_is_asked_again(server: ImageBuilderServer) -> None:
    server.images[NAME] = "registry.example.com/it-is-there"
    server.fail("GetImage", Code.UNAVAILABLE)
    server.fail("SelectCluster", Code.UNAVAILABLE)

    assert find(settings(server), NAME) == "registry.example.com/it-is-there"


def test_one_login_serves_all_images(server: ImageBuilderServer) -> None:
    with image_builder(settings(server)) as builder:
        assert [builder.find(f"image{number}:1") for number in range(5)] == [""] * 5
    assert server.counts == {"SelectCluster": 1, "GetImage": 5}


# --- building ------------------------------------------------------------------------------------------------------


def test_the_image_is_the_one_that_the_build_names(server: ImageBuilderServer) -> None:
    server.outcome = Outcome(uri="registry.example.com/elsewhere/fraud:1")

    assert build(server) == ("registry.example.com/elsewhere/fraud:1", [url(server)])


def test_spec_and_context_arrive_as_they_were_given(server: ImageBuilderServer, tmp_path: Path) -> None:
    context = tar(tmp_path)
    image, _ = build(server, context=context, name=f"ghcr.io/org/{NAME}")

    [built] = server.built
    assert (built.spec, built.context) == (SPEC, context.read_bytes())
    assert (built.target_image, image) == (f"ghcr.io/org/{NAME}", f"ghcr.io/org/{NAME}")
    assert [name for name, _ in server.uploads] == ["spec.pb", "context.tar.gz"]
    assert len(server.uploads[1][1]) < context.stat().st_size / 10


def test_without_files_no_context_is_sent(server: ImageBuilderServer) -> None:
    build(server)
    assert ([built.context for built in server.built], [name for name, _ in server.uploads]) == ([b""], ["spec.pb"])


def test_the_same_spec_and_context_give_the_same_inputs(server: ImageBuilderServer, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        build(server, context=tar(tmp_path / folder))

    first, second = server.requests("UploadInputs")
    assert first == second


def test_the_run_s_url_is_shown_while_the_build_runs(server: ImageBuilderServer) -> None:
    server.held = held = threading.Event()
    seen: list[str] = []

    def started(address: str) -> None:
        seen.append(address)
        held.set()

    assert build(server, started=started)[0] == f"registry.example.com/{NAME}"
    assert seen == [url(server)]


def test_nothing_is_printed(server: ImageBuilderServer, capfd: pytest.CaptureFixture[str]) -> None:
    build(server)
    server.outcome = Outcome(phase=phase_pb2.ACTION_PHASE_FAILED, error="broken")
    message_of(server, RemoteBuildFailed)

    assert capfd.readouterr() == ("", "")


def test_the_newest_builder_is_used(server: ImageBuilderServer) -> None:
    newer = builder_task(version="v2")
    with contextlib.closing(EmbeddedBackend(server.folder)) as backend:
        assert backend.register([newer], lambda _: None) == {}
    build(server)

    [listing], [request] = server.requests("ListTasks"), server.requests("CreateRun")
    assert (listing.request.limit, listing.project_id.name, listing.project_id.domain) == (1, "system", "production")
    assert request.task_spec == newer.spec


def test_a_remembered_build_is_used(server: ImageBuilderServer) -> None:
    build(server)
    [request] = server.requests("CreateRun")
    assert (request.run_spec.overwrite_cache, request.run_spec.cache_config.overwrite_cache) == (False, False)


def test_secrets_are_mounted_once_each_as_files(server: ImageBuilderServer) -> None:
    secrets = (
        BuildSecret(id="a", key="token", group="team"),
        BuildSecret(id="b", key="token"),
        BuildSecret(id="c", key="token"),
    )
    build(server, secrets=secrets)

    file = security_pb2.Secret.MountType.FILE
    assert server.built[0].secrets == [("team", "token", file), ("", "token", file)]


def test_a_subscription_that_ends_early_is_renewed(server: ImageBuilderServer) -> None:
    server.interruptions = ["ends", "ends"]
    pauses: list[float] = []
    image = build_patiently(server, sleep=pauses.append)

    assert (image, pauses) == (f"registry.example.com/{NAME}", [1.0, 1.0])


def test_a_subscription_that_falls_silent_is_renewed(server: ImageBuilderServer) -> None:
    server.interruptions = ["silent"]
    image = build_patiently(server, watch=0.2, sleep=lambda _: None)

    assert image == f"registry.example.com/{NAME}"
    assert server.count("WatchActionDetails") >= 2


def test_a_build_outlives_an_outage_of_the_control_plane(server: ImageBuilderServer) -> None:
    server.fail("WatchActionDetails", Code.INTERNAL, times=len(PAUSES))
    pauses: list[float] = []
    image = build_patiently(server, sleep=pauses.append)

    assert (image, pauses) == (f"registry.example.com/{NAME}", list(PAUSES))
    assert server.count("CreateRun") == 1


# --- failures ------------------------------------------------------------------------------------------------------


def test_a_failed_build_says_what_the_run_says_and_where_its_log_is(server: ImageBuilderServer) -> None:
    server.outcome = Outcome(
        phase=phase_pb2.ACTION_PHASE_FAILED, error="failed to solve\n\n  No matching distribution: nosuch==1\n"
    )
    urls: list[str] = []
    assert message_of(server, RemoteBuildFailed, started=urls.append) == (
        f"image `fraud:abc123`: the backend's build of it failed; correct what its log names: {url(server)}\n"
        "  failed to solve\n"
        "\n"
        "    No matching distribution: nosuch==1"
    )
    assert urls == [url(server)]


def test_of_a_long_error_the_end_is_shown(server: ImageBuilderServer) -> None:
    server.outcome = Outcome(
        phase=phase_pb2.ACTION_PHASE_FAILED, error="\n".join(f"line {number}" for number in range(50))
    )
    assert message_of(server, RemoteBuildFailed).splitlines()[1:] == [
        "  (20 lines before)",
        *(f"  line {number}" for number in range(20, 50)),
    ]


@pytest.mark.parametrize(
    ("phase", "reason"),
    [(phase_pb2.ACTION_PHASE_FAILED, "no reason given"), (phase_pb2.ACTION_PHASE_TIMED_OUT, "it timed out")],
    ids=["failed", "timed out"],
)
def test_a_build_that_fails_without_a_word_is_an_error(server: ImageBuilderServer, phase: int, reason: str) -> None:
    server.outcome = Outcome(phase=phase)
    assert message_of(server, RemoteBuildFailed).splitlines()[1:] == [f"  {reason}"]


@pytest.mark.parametrize(("given", "shown"), [("too\nslow", "too slow"), ("", "no reason given")])
def test_a_build_that_is_aborted_is_an_error(server: ImageBuilderServer, given: str, shown: str) -> None:
    server.outcome = Outcome(phase=phase_pb2.ACTION_PHASE_ABORTED, reason=given)
    assert message_of(server, RemoteBuildAborted) == (
        f"image `fraud:abc123`: the backend's build of it was aborted: {shown}; run it again; it was {url(server)}"
    )


def test_a_build_that_names_no_image_is_an_error(server: ImageBuilderServer) -> None:
    server.outcome = Outcome(uri="")
    assert message_of(server, RemoteBuildWithoutImage) == (
        f"image `fraud:abc123`: the backend's build of it ended well but names no image; show {url(server)} to who "
        'runs the control plane, or set `builder = "local"` and `registry` in [images]'
    )


NO_BUILDER = (
    "this control plane builds no images: that needs Union's image builder; to build on this machine, set "
    '`builder = "local"` and `registry` in [images]'
)


def test_on_an_open_source_control_plane_the_error_says_what_to_set(tmp_path: Path) -> None:
    with RecordingServer(tmp_path / "backend") as server:
        assert message_of(server, RemoteBuilderMissing) == f"{server.endpoint}: {NO_BUILDER}"
        with pytest.raises(RemoteBuilderMissing):
            find(settings(server), NAME)
        assert server.count("PUT") == 0


def test_a_control_plane_with_images_and_no_builder_task_is_the_same_error(tmp_path: Path) -> None:
    with ImageBuilderServer(tmp_path / "backend", builder=None) as server:
        assert find(settings(server), NAME) == ""
        assert message_of(server, RemoteBuilderMissing) == f"{server.endpoint}: {NO_BUILDER}"


def test_the_embedded_control_plane_builds_no_images(tmp_path: Path) -> None:
    with contextlib.closing(EmbeddedBackend(tmp_path)) as backend, pytest.raises(RemoteBuilderMissing) as caught:
        RemoteBuilder(BackendSettings(), backend)
    assert str(caught.value) == f"embedded control plane: {NO_BUILDER}"


def test_a_builder_that_takes_other_inputs_is_an_error(tmp_path: Path) -> None:
    builder = builder_task(inputs={"spec": str, "base": str})
    with ImageBuilderServer(tmp_path / "backend", builder=builder) as server:
        assert message_of(server, RemoteBuilderIncompatible) == (
            f"{server.endpoint}: the image builder `build-image` takes other inputs than this version of `flyte` "
            "gives: Too many keyword arguments provided, expected inputs dict_keys(['spec', 'base']), args "
            "dict_keys(['spec', 'context', 'target_image']); install the version of `flyte` that this control plane "
            "wants"
        )
    assert server.count("CreateRun") == 0


@pytest.mark.parametrize(
    ("call", "action", "place"),
    [
        ("ListTasks", "read task `build-image`", "system/production"),
        ("CreateUploadLocation", "upload `spec.pb`", "flytesnacks/development"),
        ("UploadInputs", "start the build of image `fraud:abc123`", "flytesnacks/development"),
        ("CreateRun", "start the build of image `fraud:abc123`", "flytesnacks/development"),
        ("WatchActionDetails", "watch the build of image `fraud:abc123`", "flytesnacks/development"),
        ("GetActionData", "read the build of image `fraud:abc123`", "flytesnacks/development"),
    ],
)
def test_what_is_not_permitted_is_said(server: ImageBuilderServer, call: str, action: str, place: str) -> None:
    server.fail(call, Code.PERMISSION_DENIED)
    assert message_of(server, NotPermitted) == (
        f"{server.endpoint}: may not {action} in `{place}`: made to fail: {call}; ask for the right to deploy there, "
        "or change `project` and `domain` in [flyte]"
    )


@pytest.mark.parametrize("call", ["ListTasks", "CreateRun", "WatchActionDetails"])
def test_credentials_that_are_not_accepted_are_an_error(server: ImageBuilderServer, call: str) -> None:
    server.fail(call, Code.UNAUTHENTICATED)
    assert message_of(server, NotLoggedIn) == (
        f"{server.endpoint}: login failed: made to fail: {call}; name a Flyte configuration file with valid "
        "credentials as `config` in [flyte], or set `FLYTE_API_KEY`"
    )


def test_a_control_plane_that_is_down_is_an_error(tmp_path: Path) -> None:
    with ImageBuilderServer(tmp_path / "backend") as server:
        pass
    with pytest.raises(BackendUnreachable):
        find(settings(server), NAME)
    assert message_of(server, BackendUnreachable).startswith(
        f"{server.endpoint}: no answer from a Flyte control plane: "
    )


def test_an_outage_that_lasts_is_an_error(server: ImageBuilderServer) -> None:
    server.fail("WatchActionDetails", Code.INTERNAL, times=-1)
    pauses: list[float] = []
    with pytest.raises(BackendFailed, match="cannot watch the build of image `fraud:abc123`"):
        build_patiently(server, sleep=pauses.append)
    assert pauses == list(PAUSES)


def test_a_store_that_takes_no_files_is_an_error(server: ImageBuilderServer) -> None:
    server.fail("PUT", 403, times=-1)
    assert "spec.pb: access denied: 403" in message_of(server, StoreAccessDenied)
    assert server.count("CreateRun") == 0


def test_no_room_for_what_is_to_be_sent_is_an_error(
    server: ImageBuilderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert message_of(server, StateUnwritable) == (
        f"{tmp_path / 'gone'}: cannot be written: No such file or directory; "
        "free some space, make the folder writable, or remove what is in its place"
    )


# --- through the command -------------------------------------------------------------------------------------------


def remotely_built(folder: Path, server: ImageBuilderServer) -> Repository:
    layers = '.with_pip_packages("six").with_source_folder(pathlib.Path("data"))'
    image = f', image=flyte.Image.from_debian_base(name="fraud"){layers}'
    settings = f'[flyte]\nendpoint = "{server.endpoint}"\ninsecure = true\n[images]\nbuilder = "remote"\n'
    repository = small(folder, fraud_py=f"import pathlib\n{environment('fraud', image)}")
    repository.write("data/prices.csv", "1\n")
    repository.write("deploy.toml", repository.read("deploy.toml") + settings)
    return repository


def test_a_deploy_has_the_backend_build_what_it_lacks_and_registers_the_uri_of_its_answer(
    server: ImageBuilderServer, tmp_path: Path
) -> None:
    repository = remotely_built(tmp_path / "repository", server)
    planned = repository.doit("plan")
    assert "as version [images]" in planned.out
    first = repository.doit("deploy")
    assert first.code == 0, first.err
    assert f"images    fraud  fraud: building at {url(server)}" in first.err
    (request,) = server.requests("DeployTask")
    assert request.spec.task_template.container.image == server.uri()
    with tarfile.open(fileobj=io.BytesIO(server.built[0].context)) as context:
        assert [member.name for member in context if member.isfile()] == ["layer2/data/prices.csv"]

    server.forget()
    assert repository.doit("deploy").code == 0
    assert server.counts == {}

    server.images[server.built[0].target_image] = server.uri()
    (repository.folder / ".flyte-build/targets/fraud/images.json").unlink()
    assert "1 reused" in repository.doit("deploy", "output=jsonl").out
    assert server.counts["CreateRun"] == 0


def test_a_base_by_reference_reaches_the_backend_as_what_it_stands_for(
    server: ImageBuilderServer, tmp_path: Path
) -> None:
    repository = remotely_built(tmp_path / "repository", server)
    code = repository.read("fraud.py").replace(
        'flyte.Image.from_debian_base(name="fraud")',
        'flyte.Image.from_ref_name("base").clone(name="fraud", extendable=True)',
    )
    repository.write("fraud.py", code)
    repository.write("deploy.toml", repository.read("deploy.toml") + '[images.refs]\nbase = "ghcr.io/acme/base:1"\n')
    ran = repository.doit("deploy")
    assert ran.code == 0, ran.err
    assert ImageSpec.FromString(server.built[0].spec).base_image == "ghcr.io/acme/base:1"
