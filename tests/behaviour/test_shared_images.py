"""What the shared cache gives of images: where they went, and never the files that they are built from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archives import noise
from tests.image_builder_service import ImageBuilderServer
from tests.repository import Repository, environment, failures

IMAGE = ', image=flyte.Image.from_debian_base(name="fraud").with_source_folder(HERE / "data")'
CODE = f"import pathlib\nHERE = pathlib.Path(__file__).parent\n{environment('fraud', IMAGE)}"
MANIFEST = """
    [flyte]
    endpoint = "{endpoint}"
    insecure = true
    [store]
    url = "file://{folder}/store"
    [cache]
    url = "file://{folder}/cache"
    [images]
    builder = "remote"
    [targets.fraud]
    path = "fraud.py"
    environment = "env"
    """

Machines = Callable[[str], Repository]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageBuilderServer]:
    with ImageBuilderServer(tmp_path / "backend") as running:
        yield running


def machines(folder: Path, endpoint: str) -> Machines:
    """Makes checkouts of one repository, by name."""

    def make(name: str) -> Repository:
        manifest = MANIFEST.format(endpoint=endpoint, folder=folder)
        files = {"deploy.toml": manifest, "fraud.py": CODE, "data/prices.csv": noise(1 << 20).hex()}
        return Repository(folder / name / "repository", files)

    return make


@pytest.fixture
def here(server: ImageBuilderServer, tmp_path: Path) -> Machines:
    """Machines with a backend each, as far as the cache can tell: it is on the loopback."""
    return machines(tmp_path, server.endpoint)


@pytest.fixture
def anywhere(server: ImageBuilderServer, tmp_path: Path) -> Machines:
    """Machines with one backend: this spelling of the loopback is not among those that the cache knows."""
    return machines(tmp_path, server.endpoint.replace("127.0.0.1", "127.1").replace("localhost", "127.1"))


def done(repository: Repository, *words: str) -> list[str]:
    """Deploy; the steps that ran."""
    ran = repository.doit("output=jsonl", *words)
    assert ran.code == 0, ran.err + ran.out
    return [e["step"] for e in ran.events if e["event"] == "finished" and e["status"] == "done"]


def contexts(repository: Repository) -> list[Path]:
    objects = (repository.folder / ".flyte-build/objects").iterdir()
    return [path for path in objects if path.stat().st_size > 1 << 20]


def test_an_image_that_went_where_all_find_it_is_neither_built_nor_looked_up_again(
    server: ImageBuilderServer, anywhere: Machines, tmp_path: Path
) -> None:
    done(anywhere("first"))
    server.forget()
    second = anywhere("second")
    assert done(second) == []
    assert server.counts == {}
    assert contexts(second) == []
    assert max(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) < 1 << 20
    assert done(second) == []


def test_an_image_of_this_machine_is_looked_up_and_what_it_is_built_from_is_made_again(
    server: ImageBuilderServer, here: Machines
) -> None:
    first, second = here("first"), here("second")
    done(first)
    assert done(second) == ["images", "serialize", "deploy"]
    (sent, again) = server.built
    assert again.context == sent.context
    assert [path.name for path in contexts(second)] == [path.name for path in contexts(first)]
    assert done(second) == []
    assert second.doit("clean").code == 0
    assert contexts(second) == []


def test_a_build_after_a_reused_discovery_has_the_files_of_the_checkout(
    server: ImageBuilderServer, anywhere: Machines
) -> None:
    done(anywhere("first"))
    second = anywhere("second")
    done(second)
    second.write("deploy.toml", second.read("deploy.toml").replace("[images]", '[images]\nplatforms = ["linux/arm64"]'))
    assert done(second) == ["images", "serialize", "deploy"]
    (sent, again) = server.built
    assert again.context == sent.context


@pytest.mark.error("ImageFilesChanged")
def test_code_that_gives_an_image_other_files_than_before_ends_the_step_and_the_next_run_takes_them(
    server: ImageBuilderServer, here: Machines
) -> None:
    """Where the checkout lies is among what no trace tells."""
    unseen = 'import os\nif "second" in os.getcwd():\n    open("data/prices.csv", "w").write("2\\n")\n'
    first, second = here("first"), here("second")
    for machine in (first, second):
        machine.write("fraud.py", unseen + CODE)
    done(first)
    ran = second.doit("deploy")
    assert ran.code == 1
    assert failures(ran) == {
        "images:fraud": "[targets.fraud]: its code now gives an image other files than it gave where it was loaded "
        "before; run again, and it is loaded anew"
    }
    assert done(second) == ["discover", "images", "serialize", "deploy"]
    assert server.built[1].context != server.built[0].context


def test_other_files_of_an_image_are_a_miss(server: ImageBuilderServer, anywhere: Machines) -> None:
    done(anywhere("first"))
    second = anywhere("second")
    second.write("data/prices.csv", "1\n")
    assert "discover" in done(second)
    assert server.built[1].context != server.built[0].context


def test_a_receipt_from_elsewhere_says_where_it_was_made(server: ImageBuilderServer, anywhere: Machines) -> None:
    first, second = anywhere("first"), anywhere("second")
    on_this = f", on {os.uname().nodename}"
    done(first)
    done(second)
    assert second.doit("why").out == first.doit("why").out.replace(on_this, f"{on_this}, from the shared cache")
    assert server.count("DeployTask") == 1
