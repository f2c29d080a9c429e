"""The SDK's tag is kept only where no other image can have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flyte import Image

from tests.image_planning import BASE, planned, write

EXACT: dict[str, Callable[[], Image]] = {
    "one pinned package": lambda: BASE.with_pip_packages("httpx==0.27"),
    "with extras": lambda: BASE.with_pip_packages("httpx[http2]==0.27.post1+local"),
    "a requirements file": lambda: BASE.with_requirements("requirements.txt"),
    "another name": lambda: BASE,
    "another registry": lambda: Image.from_debian_base(registry="ghcr.io/org"),
    "a tag of the SDK's": lambda: Image.from_debian_base(install_flyte=False),
    "the default image": lambda: Image.from_debian_base(name="x").with_pip_packages("httpx==0.27"),
}
INEXACT: dict[str, Callable[[], Image]] = {
    "two packages, which are joined without a separator": lambda: BASE.with_pip_packages("ab==1", "c==1"),
    "a package that floats": lambda: BASE.with_pip_packages("httpx>=0.27"),
    "a package that may continue the base's tag": lambda: BASE.with_pip_packages("7zip==1"),
    "options": lambda: BASE.with_pip_packages("httpx==0.27", pre=True),
    "a secret": lambda: BASE.with_pip_packages("httpx==0.27", secret_mounts="token"),
    "a requirements file without a line break": lambda: BASE.with_requirements("short.txt"),
    "two layers": lambda: BASE.with_pip_packages("httpx==0.27").with_workdir("/x"),
    "another kind of layer": lambda: BASE.with_apt_packages("curl=1"),
    "another platform": lambda: BASE.clone(platform=("linux/arm64",)).with_pip_packages("httpx==0.27"),
    "another platform of a preset": lambda: Image.from_debian_base(install_flyte=False, platform=("linux/arm64",)),
    "another Python": lambda: BASE.clone(python_version=(3, 9)).with_pip_packages("httpx==0.27"),
    "a reference": lambda: Image.from_ref_name("base").clone(extendable=True).with_pip_packages("httpx==0.27"),
    "the user's own Dockerfile": lambda: Image.from_dockerfile("Dockerfile", "ghcr.io/org", "job"),
    "nothing to install": lambda: BASE.with_pip_packages(),
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, {"requirements.txt": "httpx\n", "short.txt": "httpx", "Dockerfile": "FROM x\n"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", EXACT)
def test_an_exact_tag_is_the_sdk_s_own(what: str, root: Path) -> None:
    image = EXACT[what]()
    assert planned(image, root).exact_tag == image.uri.rpartition(":")[2]


@pytest.mark.parametrize("what", INEXACT)
def test_a_tag_that_could_stand_for_something_else_is_not_kept(what: str, root: Path) -> None:
    assert planned(INEXACT[what](), root).exact_tag == ""


def test_the_sdk_s_tag_confuses_what_ours_keeps_apart(root: Path) -> None:
    one, other = BASE.with_pip_packages("ab==1", "c==1"), BASE.with_pip_packages("a", "b==1c==1")
    assert one.uri == other.uri
    assert planned(one, root) != planned(other, root)
