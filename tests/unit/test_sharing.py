"""What makes two machines the same to the shared cache, and what its objects give away."""

from __future__ import annotations

import os
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from msgspec.structs import replace

from flyte_build import pipeline
from flyte_build.cache.sealed import derived, seal, unseal
from flyte_build.model import BackendSettings, ImageSettings
from flyte_build.sharing import surroundings as surroundings_module
from flyte_build.sharing.entries import Entry, Sealed, Traces, is_output, opened, place_key, static_key
from flyte_build.sharing.pack import are_elsewhere
from flyte_build.sharing.run import Sharing
from flyte_build.sharing.surroundings import contents, is_loopback, machine_of, surroundings
from flyte_build.state.trace import Trace
from flyte_build.steps import images
from tests.checkout import Checkout
from tests.repository import MANIFEST, WORKFLOW

RECORD = """\
{scripts}
../../../share/iniconfig/table,sha256=table,10
iniconfig/__init__.py,sha256=code,10
iniconfig/__pycache__/__init__.cpython-311.pyc,,
iniconfig-2.0.0.dist-info/INSTALLER,sha256={installer},4
iniconfig-2.0.0.dist-info/METADATA,sha256=metadata,100
iniconfig-2.0.0.dist-info/RECORD,,
iniconfig-2.0.0.dist-info/direct_url.json,sha256={installer},4
"""


def installed(prefix: Path, *, installer: str = "pip", **changed: str) -> Path:
    """A virtual environment's folder of distributions, as an installer leaves it. `changed`: old text -> new."""
    folder = prefix / "lib" / "python" / "site-packages"
    scripts = f"../../../bin/iniconfig,sha256={prefix.name},200"
    record = RECORD.format(scripts=scripts, installer=installer)
    if installer == "uv":  # in another order, and without what Python compiles
        record = "".join(line for line in sorted(record.splitlines(keepends=True), reverse=True) if ".pyc" not in line)
    for old, new in changed.items():
        record = record.replace(old, new)
    (folder / f"iniconfig-{changed.get('version', '2.0.0')}.dist-info").mkdir(parents=True)
    (folder / f"iniconfig-{changed.get('version', '2.0.0')}.dist-info" / "RECORD").write_text(record)
    return folder


def seen(monkeypatch: pytest.MonkeyPatch, checkout: Path, folder: Path) -> str:
    """The surroundings of a checkout with this environment."""
    repository = Checkout(checkout, {"deploy.toml": MANIFEST, "fraud.py": WORKFLOW})
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(folder)])
        return surroundings(repository.project())


def test_the_same_distributions_elsewhere_by_another_installer_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = seen(monkeypatch, tmp_path / "a", installed(tmp_path / "env"))
    there = seen(monkeypatch, tmp_path / "b" / "c", installed(tmp_path / "another-env", installer="uv"))
    assert here == there


@pytest.mark.parametrize(
    "changed",
    [{"version": "2.0.1"}, {"code": "other"}, {"metadata": "other"}, {"table": "other"}],
    ids=["version", "code", "metadata", "data"],
)
def test_other_distributions_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    here = seen(monkeypatch, tmp_path / "a", installed(tmp_path / "env"))
    assert here != seen(monkeypatch, tmp_path / "b", installed(tmp_path / "env2", **changed))


def test_a_folder_added_to_the_import_path_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = installed(tmp_path / "env"), installed(tmp_path / "env2")
    (there / "more.pth").write_text("/somewhere/else\n")
    assert seen(monkeypatch, tmp_path / "a", here) != seen(monkeypatch, tmp_path / "a", there)


@pytest.mark.parametrize("name", ["sitecustomize.py", "copied.abi3.so", "copied/__init__.py"])
def test_a_module_of_no_distribution_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    here, there = installed(tmp_path / "env"), installed(tmp_path / "env2")
    (there / name).parent.mkdir(exist_ok=True)
    (there / name).write_text("LIMIT = 1\n")
    assert seen(monkeypatch, tmp_path / "a", here) != seen(monkeypatch, tmp_path / "a", there)
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_text("LIMIT = 1\n")
    assert seen(monkeypatch, tmp_path / "a", here) == seen(monkeypatch, tmp_path / "b", there)
    if "/" not in name:
        (there / name).write_text("LIMIT = 2\n")
        assert seen(monkeypatch, tmp_path / "a", here) != seen(monkeypatch, tmp_path / "a", there)


def test_what_a_distribution_lists_and_what_python_compiles_is_of_that_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = installed(tmp_path / "env"), installed(tmp_path / "env2")
    (there / "iniconfig").mkdir()
    (there / "__pycache__").mkdir()
    assert seen(monkeypatch, tmp_path / "a", here) == seen(monkeypatch, tmp_path / "a", there)


def test_a_checkout_that_is_installed_as_editable_is_the_same_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("a", "b"):
        folder = installed(tmp_path / f"env-{name}")
        (folder / "_editable.pth").write_text(f"{(tmp_path / name).resolve()}/src\n")
        found.append(seen(monkeypatch, tmp_path / name, folder))
    assert found[0] == found[1]


Version = namedtuple("Version", "major minor micro releaselevel serial")


PLATFORMS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "Python": lambda patch: patch.setattr(sys, "version_info", Version(3, 99, 0, "final", 0)),
    "platform": lambda patch: patch.setattr(sys, "platform", "other"),
    "flyte_build": lambda patch: patch.setattr("flyte_build.sharing.surroundings.__version__", "9.9"),
}


@pytest.mark.parametrize("change", PLATFORMS.values(), ids=PLATFORMS.keys())
def test_another_python_or_platform_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    folder = installed(tmp_path / "env")
    here = seen(monkeypatch, tmp_path / "a", folder)
    change(monkeypatch)
    assert here != seen(monkeypatch, tmp_path / "a", folder)


def test_what_an_installer_notes_is_no_content() -> None:
    record = RECORD.format(scripts="../../../bin/x,sha256=x,1", installer="pip")
    assert contents(record) == [
        "../../../share/iniconfig/table,sha256=table,10",
        "iniconfig-2.0.0.dist-info/METADATA,sha256=metadata,100",
        "iniconfig/__init__.py,sha256=code,10",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "dns:///localhost:8090",
        "http://127.0.0.1:9000",
        "localhost:5000",
        "localhost:5000/hub",
        "dns:///[::1]:80",
        "http://LocalHost:9000",
        "k3d-registry.localhost:5000/image",
        "http://host.docker.internal:9000",
    ],
)
def test_an_address_of_the_machine_that_asks_is_of_this_machine(address: str) -> None:
    assert is_loopback(address)
    assert machine_of("", address)


@pytest.mark.parametrize(
    "address",
    ["", "dns:///flyte.example.com", "ghcr.io/localhost-tools", "https://10.127.0.0", "https://localhost.example.com"],
)
def test_an_address_elsewhere_means_the_same_on_every_machine(address: str) -> None:
    assert not is_loopback(address)
    assert not machine_of(address)


@pytest.mark.parametrize("place", ["/proc/sys/kernel/random/boot_id", "/proc/1/stat"])
def test_machines_made_from_one_image_are_told_apart(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    here, read = machine_of("localhost"), surroundings_module._text
    assert here == machine_of("127.0.0.1")
    later = f"1 (init) {' '.join(map(str, range(50)))}"
    monkeypatch.setattr(surroundings_module, "_text", lambda path: later if str(path) == place else read(path))
    assert machine_of("localhost") != here


def test_what_is_found_in_a_registry_of_this_machine_hinders_no_sharing_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images' own results say where they are: see `are_elsewhere`."""
    tables = '[flyte]\nendpoint = "dns:///localhost:8090"\n[images]\nregistry = "localhost:5000"\n'
    project = Checkout(tmp_path, {"deploy.toml": tables + dedent(MANIFEST), "fraud.py": WORKFLOW}).project()
    target = project.manifest.targets["fraud"]
    here = static_key(project, target, ""), place_key(project, target)
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "another", "6", "1", "x86_64")))
    there = static_key(project, target, ""), place_key(project, target)
    assert (here[0] == there[0], here[1] == there[1]) == (True, False)


def built(uri: str) -> images.Result:
    named = {"env": "ghcr.io/org/base:1", "other": uri}
    return images.Result(uris=named, images={uri: images.Image(digest=f"sha256:{'a' * 64}", how="built")})


NAMED = images.Result(uris={"env": "localhost:5000/image:1"})
REMOTE = ImageSettings(builder="remote")


@pytest.mark.parametrize(
    ("result", "settings", "endpoint", "shared"),
    [
        (NAMED, ImageSettings(), "", True),
        (NAMED, REMOTE, "dns:///localhost:8090", True),
        (built("ghcr.io/org/image:1"), ImageSettings(), "dns:///localhost:8090", True),
        (built("ghcr.io/org/image:1"), REMOTE, "dns:///flyte.example.com", True),
        (built("ghcr.io/org/image:1"), REMOTE, "dns:///localhost:8090", False),
        (built("localhost:5000/image:1"), ImageSettings(), "", False),
        (built("127.0.0.1:5000/image:1"), ImageSettings(), "", False),
        (built("localhost:30000/image:1"), REMOTE, "dns:///flyte.example.com", False),
    ],
)
def test_an_image_that_only_this_machine_has_is_not_shared(
    tmp_path: Path, result: images.Result, settings: ImageSettings, endpoint: str, shared: bool
) -> None:
    plain = Checkout(tmp_path, {"deploy.toml": MANIFEST, "fraud.py": WORKFLOW}).project().manifest
    manifest = replace(plain, images=settings, backend=BackendSettings(endpoint=endpoint))
    assert are_elsewhere(result, manifest) is shared


# --- publishing


@pytest.mark.parametrize(("code", "published"), [("code", True), ("other", False)])
def test_nothing_is_published_of_a_run_during_which_something_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, published: bool
) -> None:
    folder = installed(tmp_path / "env")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    cache = f"[cache]\nurl = 'file://{tmp_path}/cache'\n"
    checkout = Checkout(tmp_path / "a", {"deploy.toml": cache + dedent(MANIFEST), "fraud.py": WORKFLOW})
    project = checkout.project()
    target = project.manifest.targets["fraud"]
    sharing = Sharing(project)
    sharing.fetch([target])
    for step in pipeline.STEPS:
        pipeline.run(project, target, step)
    (record,) = folder.glob("*/RECORD")
    record.write_text(record.read_text().replace("=code", f"={code}"))
    sharing.finish(["fraud"])
    project.close()
    assert (tmp_path / "cache" / "v1" / "local").exists() is published


# --- objects


def test_what_was_sealed_is_opened_with_its_key_alone() -> None:
    key, other = derived("key", b"answers"), derived("key", b"other answers")
    sealed = seal(key, b"content " * 100)
    assert unseal(key, sealed) == b"content " * 100
    assert unseal(other, sealed) is None
    assert b"content" not in sealed


def test_every_byte_of_a_sealed_object_counts() -> None:
    key = derived("key", b"answers")
    sealed = seal(key, b"content")
    for place in range(len(sealed)):
        assert unseal(key, sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]) is None
        assert unseal(key, sealed[:place]) is None


def test_an_object_of_another_version_counts_as_damaged() -> None:
    sealed = Sealed(name="v1/questions/x", key=derived("key", b"answers"))
    good = seal(sealed.key, msgspec.msgpack.encode(Traces(discover=Trace(), bundle=Trace())))
    assert opened(sealed, good, Traces) == Traces(discover=Trace(), bundle=Trace())
    assert opened(sealed, good, Entry) is None
    assert opened(sealed, seal(sealed.key, b"\xc1"), Traces) is None


def test_parts_and_purposes_are_kept_apart() -> None:
    assert len({derived("a", b"x", b"y"), derived("a", b"xy"), derived("b", b"x", b"y"), derived("a", b"", b"xy")}) == 4


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../dodo.py", "objects/../../dodo.py", "objects/" + "0" * 31, "bundles/x.tar.gz", "targets/x.json"],
)
def test_an_entry_brings_no_file_but_results(path: str) -> None:
    assert not is_output(path)
    assert is_output("objects/" + "0" * 32)
    assert is_output(f"bundles/{'a' * 32}.tar.gz")
