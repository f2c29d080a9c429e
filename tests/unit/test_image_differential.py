"""Our Dockerfiles, contexts and specifications against those that the SDK itself makes of the same images."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flyte import Image, Secret
from flyte._image import PythonWheels, resolve_code_bundle_layer
from flyte._internal.imagebuild import docker_builder, remote_builder
from flyte._internal.imagebuild.utils import get_and_list_dockerignore
from flyteidl2.imagebuilder import definition_pb2

from tests.image_planning import BASE, contents, planned, write

UV = "# /// script\n# dependencies = ['httpx', 'rich>=13']\n# ///\n"
UV_WITH_PROJECT = "# /// script\n# dependencies = ['httpx', 'lib @ file://lib']\n# ///\n"
PIXI = "# /// script\n# requires-python = '>=3.11'\n# dependencies = ['httpx']\n# ///\n"
BACKEND = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
LOCK = """\
version = 1
revision = 3
requires-python = ">=3.10"

[[package]]
name = "lib"
version = "1"
source = { editable = "../lib" }

[[package]]
name = "locked"
version = "1"
source = { virtual = "." }
dependencies = [
    { name = "lib" },
]

[package.metadata]
requires-dist = [{ name = "lib", editable = "../lib" }]
"""
FILES = {
    "requirements.txt": "httpx==0.27\n",
    "src/a.py": "A = 1\n",
    "src/deep/b.py": "B = 2\n",
    "src/notes.log": "text\n",
    "conf.yaml": "a: 1\n",
    "ignoring/.dockerignore": "**/*.log\n",
    "app/pyproject.toml": '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.10"\n',
    "app/app.py": "",
    "locked/pyproject.toml": (
        '[project]\nname = "locked"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["lib"]\n'
        '[tool.uv.sources]\nlib = { path = "../lib", editable = true }\n'
    ),
    "locked/uv.lock": LOCK,
    "lib/pyproject.toml": f'[project]\nname = "lib"\nversion = "1"\nrequires-python = ">=3.10"\n{BACKEND}',
    "lib/lib.py": "",
    "poems/pyproject.toml": '[project]\nname = "poems"\nversion = "1"\n',
    "poems/poetry.lock": "# none\n",
    "pixels/pixi.toml": '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n',
    "pixels/pixi.lock": "version: 6\n",
    "bare/pixi.toml": '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n',
    "script.py": UV,
    "script_with_project.py": UV_WITH_PROJECT,
    "pixi_script.py": PIXI,
    "locked_pixi_script.py": PIXI,
    "locked_pixi_script.py.pixi.lock": "version: 6\n",
    "dist/lib-1-py3-none-any.whl": "wheel",
}
TOKEN = Secret(key="token", group="index", as_env_var="TOKEN")
OPTIONS: dict[str, Any] = {
    "index_url": "https://index.example.com/simple",
    "extra_index_urls": ("https://one.example.com", "https://two.example.com"),
    "pre": True,
    "extra_args": "--no-cache",
}

DEBIAN = Image.from_debian_base(name="job")
IMAGES: dict[str, Callable[[], Image]] = {
    "packages": lambda: BASE.with_pip_packages("httpx", "rich>=13", "a b"),
    "packages_with_options": lambda: BASE.with_pip_packages("httpx", **OPTIONS),
    "packages_with_secrets": lambda: BASE.with_pip_packages(
        "httpx", secret_mounts=["one", TOKEN, Secret(key="file", mount=Path("/etc/flyte/secrets"))]
    ),
    "requirements": lambda: DEBIAN.with_requirements("requirements.txt", **OPTIONS),
    "absolute_requirements": lambda: BASE.with_requirements(Path("requirements.txt").absolute()),
    "uv_project": lambda: BASE.with_uv_project("app/pyproject.toml", **OPTIONS),
    "uv_project_locked": lambda: BASE.with_uv_project("locked/pyproject.toml"),
    "uv_project_absolute": lambda: BASE.with_uv_project(Path("locked/pyproject.toml").absolute()),
    "uv_project_installed": lambda: BASE.with_uv_project(
        "locked/pyproject.toml", project_install_mode="install_project", secret_mounts=TOKEN
    ),
    "uv_project_unlocked_installed": lambda: BASE.with_uv_project(
        "app/pyproject.toml", project_install_mode="install_project", pre=True
    ),
    "poetry": lambda: BASE.with_poetry_project("poems/pyproject.toml", extra_args="--only main", secret_mounts=TOKEN),
    "poetry_installed": lambda: BASE.with_poetry_project(
        "poems/pyproject.toml", project_install_mode="install_project"
    ),
    "pixi": lambda: BASE.with_pixi_project("pixels", environment="gpu", secret_mounts=TOKEN),
    "pixi_unlocked": lambda: BASE.with_pixi_project("bare/pixi.toml", extra_args="--frozen"),
    "pixi_installed": lambda: BASE.with_pixi_project("pixels", project_install_mode="install_project"),
    "pixi_script": lambda: Image.from_pixi_script("pixi_script.py", name="job"),
    "pixi_script_locked": lambda: Image.from_pixi_script(
        "locked_pixi_script.py", name="job", platform=("linux/amd64",)
    ),
    "uv_script": lambda: Image.from_uv_script("script.py", name="job", pre=True, index_url="https://one.example.com"),
    "uv_script_with_project": lambda: Image.from_uv_script("script_with_project.py", name="job"),
    "apt": lambda: BASE.with_apt_packages("curl", "git", secret_mounts=TOKEN),
    "commands": lambda: BASE.with_commands(["echo a && echo b", "make -C /x"], secret_mounts=[TOKEN, "other"]),
    "variables": lambda: BASE.with_env_vars({"A": "1", "PATH": "/opt/x:$PATH", "URL": "https://a.example.com/?x=1"}),
    "workdir": lambda: BASE.with_workdir("/home/nonroot"),
    "source_file": lambda: BASE.with_source_file(Path("conf.yaml"), "/etc/app/"),
    "source_files": lambda: BASE.with_source_file([Path("conf.yaml"), Path("src/a.py").absolute()]),
    "source_folder": lambda: BASE.with_source_folder(Path("src")),
    "source_folder_to": lambda: BASE.with_source_folder(Path("src").absolute(), "/code", copy_contents_only=True),
    "dockerignore": lambda: BASE.with_dockerignore(Path("ignoring/.dockerignore")).with_source_folder(Path("src")),
    "wheels": lambda: BASE.clone(addl_layer=PythonWheels(wheel_dir=Path("dist"), package_name="lib")),
    "no_flyte": lambda: Image.from_debian_base(install_flyte=False, python_version=(3, 12)),
    "several": lambda: (
        DEBIAN.with_apt_packages("git").with_requirements("requirements.txt").with_source_folder(Path("src"))
    ),
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the files, in which relative paths start; uv is found, and stays off the network."""
    root = (tmp_path / "root").resolve()
    write(root, FILES)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for name, value in {"UV_OFFLINE": "1", "UV_NO_CACHE": "1", "UV_PYTHON": sys.executable}.items():
        monkeypatch.setenv(name, value)
    return root


def their_dockerfile(image: Image, context: Path) -> str:
    """What the SDK's local builder writes, from its own parts, in its own order."""
    text = docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.substitute(
        BASE_IMAGE=image.base_image, PYTHON_VERSION=".".join(map(str, image.python_version))
    )
    patterns = get_and_list_dockerignore(image)
    for layer in image._layers:
        text = asyncio.run(docker_builder._process_layer(layer, context, text, patterns))
    if docker_builder._image_creates_flyte_user(image):
        text += docker_builder.DOCKER_FILE_FLYTE_USER_FOOTER
    return text + docker_builder.DOCKER_FILE_BASE_FOOTER.substitute(F_IMG_ID="URI")


class Plain(NamedTuple):
    """Takes out what may differ: where the context has a file, ids of secrets, white space, the version of uv."""

    root: Path

    def path(self, text: str) -> str:
        text = re.sub(r"\blayer\d+(/|$|(?= ))", "", text)
        text = re.sub(r"_flyte_abs_context/tmp/flyte-pixi-script-\w+/", "", text)
        return re.sub(f"_flyte_abs_context{re.escape(str(self.root))}/?", "", text)

    def instructions(self, text: str) -> list[str]:
        text = "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("# "))
        joined = re.sub(r"\\\n", " ", text).splitlines()
        return [self._instruction(re.sub(r"\s+", " ", line).strip()) for line in joined]

    def _instruction(self, line: str) -> str:
        line = re.sub(r"_F_IMG_ID=\S+", "_F_IMG_ID=URI", self.path(line))
        line = re.sub(r"(?<=astral-sh/uv:)\S+", "VERSION", line)
        return re.sub(r"--mount=(\S+)", lambda match: self._mount(match[1]), line)

    def _mount(self, text: str) -> str:
        options = [option.replace("source=/", "source=").replace("source=", "src=") for option in text.split(",")]
        if "type=secret" in options:
            options = [option for option in options if not option.startswith("id=")]
        return f"--mount={','.join(sorted(options))}"

    def files(self, found: dict[str, bytes]) -> dict[str, bytes]:
        return {self.path(name): content for name, content in found.items()}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", IMAGES)
def test_the_dockerfile_and_its_context_are_those_of_the_sdk(name: str, root: Path, tmp_path: Path) -> None:
    image = IMAGES[name]()
    build = planned(image, root)
    context = tmp_path / "context"
    context.mkdir()
    theirs = their_dockerfile(image, context)
    plain = Plain(root)
    assert plain.instructions(build.dockerfile) == plain.instructions(theirs)
    # their ignore file is in the context for Docker to read, ours has been applied
    wanted = {name: content for name, content in plain.files(on_disk(context)).items() if name != ".dockerignore"}
    assert plain.files(contents(build, root)) == wanted


def test_the_frontend_is_that_of_the_sdk(root: Path) -> None:
    first = docker_builder.DOCKER_FILE_UV_BASE_TEMPLATE.template.splitlines()[0]
    assert planned(BASE.with_workdir("/x"), root).dockerfile.splitlines()[0] == first


@pytest.mark.parametrize("style", ["loaded_modules", "all"])
def test_code_in_the_image_comes_last_as_with_the_sdk(style: Any, root: Path, tmp_path: Path) -> None:
    image = BASE.with_code_bundle(style, dst="/code").with_workdir("/code")
    resolved = resolve_code_bundle_layer(image, "none", root)
    context = tmp_path / "context"
    context.mkdir()
    plain = Plain(root)
    build = planned(image, root, loaded=("src/a.py",))
    assert plain.instructions(build.dockerfile) == plain.instructions(their_dockerfile(resolved, context))
    assert plain.files(contents(build, root)) == {"src/a.py": b"A = 1\n"}


# --- the backend's builder


def their_spec(image: Image, context: Path, plain: Plain) -> definition_pb2.ImageSpec:
    return with_plain_paths(remote_builder._get_layers_proto(image, context), plain)


def with_plain_paths(spec: Any, plain: Plain) -> Any:
    for layer in spec.layers:
        message = getattr(layer, layer.WhichOneof("layer"))
        for field in ("file", "dir", "src", "pyproject", "uvlock", "source_dir", "poetry_lock"):
            if field in message.DESCRIPTOR.fields_by_name:
                setattr(message, field, plain.path(getattr(message, field)) or ".")
        if message.DESCRIPTOR.name == "UVProject":
            message.options.extra_args = message.options.extra_args.strip()
    return spec


@pytest.mark.parametrize("name", IMAGES)
def test_the_specification_is_that_of_the_sdk(name: str, root: Path, tmp_path: Path) -> None:
    image = IMAGES[name]()
    context = tmp_path / "context"
    context.mkdir()
    plain = Plain(root)
    build = planned(image, root)
    ours = definition_pb2.ImageSpec.FromString(build.remote_spec)
    assert with_plain_paths(ours, plain) == their_spec(image, context, plain)
    assert not build.remote_refusal


def test_options_of_a_project_stay_beside_that_which_leaves_the_project_out(root: Path) -> None:
    image = BASE.with_uv_project("app/pyproject.toml", extra_args="--no-install-project --no-dev")
    spec = definition_pb2.ImageSpec.FromString(planned(image, root).remote_spec)
    assert spec.layers[0].uv_project.options.extra_args == "--no-install-project --no-dev"


def test_a_script_that_needs_only_projects_gets_them_from_the_backend_too(root: Path) -> None:
    write(root, {"only.py": "# /// script\n# dependencies = ['lib @ file://lib']\n# ///\n"})
    spec = definition_pb2.ImageSpec.FromString(planned(Image.from_uv_script("only.py", name="job"), root).remote_spec)
    assert spec.layers[-1].uv_project.pyproject.endswith("/lib")


def test_the_backend_refuses_the_user_s_own_dockerfile(root: Path) -> None:
    write(root, {"docker/Dockerfile": "FROM python:3.12\n"})
    build = planned(Image.from_dockerfile(Path("docker/Dockerfile"), "ghcr.io/org", "job"), root)
    assert (build.remote_spec, build.remote_refusal) == (
        b"",
        "it is made by `Image.from_dockerfile`, which only the local builder can build",
    )
