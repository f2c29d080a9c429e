"""The exact text that each layer adds to a Dockerfile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from flyte import Image, Secret
from flyte._image import PythonWheels

from flyte_build import standins
from flyte_build.errors import ImageLayerInvalid
from flyte_build.images.layers import Secret as LayerSecret
from flyte_build.model import BuildSecret
from tests.image_planning import BASE, layer_lines, planned, write

FILES = {
    "repo/root/requirements.txt": "httpx\n",
    "repo/root/with space & [x].txt": "a\n",
    **{f"repo/root/{name}": "" for name in ("q'\"$HOME.txt", "back\\slash.txt", "b\\o[t]h.txt")},
    "repo/root/app/pyproject.toml": '[project]\nname = "app"\n[tool.uv.sources]\nlib = { path = "../../lib" }\n',
    "repo/root/app/uv.lock": '[[package]]\nname = "app"\nsource = { virtual = "." }\n',
    "repo/root/poems/pyproject.toml": "",
    "repo/root/poems/poetry.lock": "",
    "repo/root/pixels/pixi.toml": "",
    "repo/root/dist/x.whl": "",
    "repo/root/script.py": "# /// script\n# dependencies = ['httpx', 'app @ file://app']\n# ///\n",
    "repo/lib/pyproject.toml": "",
    "repo/shared/notes.txt": "a\n",
}
CACHE = "--mount=type=cache,sharing=locked,mode=0777"
UV = f"{CACHE},target=/root/.cache/uv,id=uv"
SYNC = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv} uv sync --active --inexact"
TOKEN = Secret(key="token", group="index", as_env_var="TOKEN")
TOKEN_ID = LayerSecret(key="token", group="index").id

CASES: dict[str, tuple[Callable[[], Image], str]] = {
    "pip": (
        lambda: BASE.with_pip_packages("a>1", "b", extra_args="--no-deps", secret_mounts=TOKEN),
        f"""\
        RUN {UV} \\
            --mount=type=secret,id={TOKEN_ID},env=TOKEN \\
            uv pip install --python $UV_PYTHON --no-deps 'a>1' b
        """,
    ),
    "requirements": (
        lambda: BASE.with_requirements("requirements.txt", pre=True),
        f"""\
        RUN {UV} \\
            --mount=type=bind,target=requirements.txt,src=layer1/requirements.txt \\
            uv pip install --python $UV_PYTHON --pre --requirement requirements.txt
        """,
    ),
    "uv project without a lock, with a local dependency outside the root": (
        lambda: BASE.with_uv_project("app/pyproject.toml", uvlock=None).clone(addl_layer=None),
        f"""\
        RUN {UV} \\
            --mount=type=bind,target=uv.lock,src=layer1/app/uv.lock,rw \\
            --mount=type=bind,target=pyproject.toml,src=layer1/app/pyproject.toml \\
            {SYNC} --no-install-project
        """,
    ),
    "uv project, installed": (
        lambda: BASE.with_uv_project("app/pyproject.toml", project_install_mode="install_project"),
        f"""\
        RUN {UV} \\
            --mount=type=bind,target=/root/.flyte/app,src=layer1/app,rw \\
            {SYNC} --no-editable --project /root/.flyte/app
        """,
    ),
    "uv script": (
        lambda: BASE.clone(addl_layer=Image.from_uv_script("script.py", name="x")._layers[-1]),
        f"""\
        RUN {UV} \\
            uv pip install --python $UV_PYTHON httpx
        RUN {CACHE},target=/var/cache/apt,id=apt \\
            apt-get update && apt-get install -y --no-install-recommends git
        RUN {UV} \\
            --mount=type=bind,target=/root/.flyte/app,src=layer1/app,rw \\
            {SYNC} --no-editable --project /root/.flyte/app
        """,
    ),
    "poetry": (
        lambda: BASE.with_poetry_project("poems/pyproject.toml"),
        f"""\
        RUN {UV} \\
            uv pip install poetry
        ENV POETRY_CACHE_DIR=/tmp/poetry_cache POETRY_VIRTUALENVS_IN_PROJECT=true
        RUN {CACHE},target=/tmp/poetry_cache,id=poetry \\
            --mount=type=bind,target=poetry.lock,src=layer1/poems/poetry.lock \\
            --mount=type=bind,target=pyproject.toml,src=layer1/poems/pyproject.toml \\
            VIRTUAL_ENV=${{VIRTUAL_ENV-/opt/venv}} poetry install --no-root
        """,
    ),
    "pixi": (
        lambda: BASE.with_pixi_project("pixels"),
        f"""\
        COPY --from=ghcr.io/prefix-dev/pixi:0.72.2 /usr/local/bin/pixi /usr/local/bin/pixi
        COPY layer1/pixels/pixi.toml /opt/pixi-project/pixi.toml
        RUN {CACHE},target=/root/.cache/rattler,id=pixi \\
            pixi install --manifest-path /opt/pixi-project/pixi.toml --environment default
        ENV VIRTUAL_ENV=/opt/pixi-project/.pixi/envs/default \
UV_PYTHON=/opt/pixi-project/.pixi/envs/default/bin/python PIXI_PROJECT_MANIFEST=/opt/pixi-project/pixi.toml \
PATH=/opt/pixi-project/.pixi/envs/default/bin:$PATH
        """,
    ),
    "wheels": (
        lambda: BASE.clone(addl_layer=PythonWheels(wheel_dir=Path("dist"), package_name="x")),
        f"""\
        RUN {CACHE},target=/root/.cache/uv,id=wheel \\
            --mount=type=bind,target=/dist,src=layer1/dist \\
            uv pip install --python $UV_PYTHON --find-links /dist x
        RUN {CACHE},target=/root/.cache/uv,id=wheel \\
            --mount=type=bind,target=/dist,src=layer1/dist \\
            uv pip install --python $UV_PYTHON --find-links /dist --no-deps --no-index --reinstall x
        """,
    ),
    "commands": (
        lambda: BASE.with_commands(["a | b", "c"], secret_mounts=[Secret(key="k", mount=Path("/etc/flyte/secrets"))]),
        f"""\
        RUN --mount=type=secret,id={LayerSecret(key="k").id},target=/etc/flyte/secrets a | b
        RUN --mount=type=secret,id={LayerSecret(key="k").id},target=/etc/flyte/secrets c
        """,
    ),
    "variables that need quotes": (
        lambda: BASE.with_env_vars({"A": "b c", "B": 'say "x"\\', "C": "", "PATH": "/x y:$PATH", "D": "é"}),
        """\
        ENV A="b c"
        ENV B="say \\"x\\"\\\\"
        ENV C=""
        ENV PATH="/x y:$PATH"
        ENV D="é"
        """,
    ),
    "a file with an odd name": (
        lambda: BASE.with_source_file(Path("with space & [x].txt"), "/data dir/"),
        """\
        COPY --chown=flyte:flyte ["layer1/with space & [[]x].txt", "/data dir/"]
        """,
    ),
    "files whose names mean something to Docker": (
        lambda: BASE.with_source_file([Path(name) for name in ("q'\"$HOME.txt", "back\\slash.txt", "b\\o[t]h.txt")]),
        r"""
        COPY --chown=flyte:flyte layer1/q\'\"\$HOME.txt .
        COPY --chown=flyte:flyte layer2/back\\slash.txt .
        COPY --chown=flyte:flyte layer3/b\\\\o[[]t]h.txt .
        """.removeprefix("\n"),
    ),
    "a file outside the root": (
        lambda: BASE.with_source_file(Path("../shared/notes.txt")),
        """\
        COPY --chown=flyte:flyte layer1/shared/notes.txt .
        """,
    ),
    "the root itself": (
        lambda: BASE.with_source_folder(Path("."), "/code"),
        """\
        COPY --chown=flyte:flyte layer1 /code
        """,
    ),
    "the user flyte, made by the SDK's base": (
        lambda: BASE.with_workdir("/first").with_dockerignore(Path("requirements.txt")),
        """\
        WORKDIR /first
        """,
    ),
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, FILES)
    monkeypatch.chdir(tmp_path / "repo/root")
    return tmp_path / "repo/root"


@pytest.mark.parametrize("name", CASES)
def test_a_layer_adds_these_lines(name: str, root: Path) -> None:
    image, expected = CASES[name]
    assert layer_lines(planned(image(), root)) == dedent(expected)


def test_a_local_dependency_outside_the_root_keeps_its_place_beside_the_project(root: Path) -> None:
    (root / "app/uv.lock").unlink()
    assert layer_lines(planned(BASE.with_uv_project("app/pyproject.toml"), root)) == (
        f"RUN {UV} \\\n"
        "    --mount=type=bind,target=pyproject.toml,src=layer1/@above/app/pyproject.toml \\\n"
        "    --mount=type=bind,target=../../lib,src=layer1/lib,rw \\\n"
        f"    {SYNC} --no-install-project\n"
    )


def test_every_image_begins_and_ends_as_the_sdk_s(root: Path) -> None:
    assert planned(Image.from_debian_base(install_flyte=False, python_version=(3, 12)), root).dockerfile == (
        dedent(
            """\
            # syntax=docker/dockerfile:1.10
            FROM ghcr.io/astral-sh/uv:0.13.4 AS uv
            FROM python:3.12-slim-bookworm
            USER root
            COPY --from=uv /uv /usr/bin/uv
            ARG VIRTUALENV=/opt/venv
            ARG UV_PYTHON=$VIRTUALENV/bin/python
            ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUALENV=$VIRTUALENV UV_PYTHON=$UV_PYTHON
            RUN if [ ! -f "$UV_PYTHON" ]; then uv venv $VIRTUALENV --python=3.12 && uv run --python=$UV_PYTHON python \
-m compileall $VIRTUALENV; fi
            ENV PATH="$VIRTUALENV/bin:$PATH"
            ENV PATH="$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin" LD_LIBRARY_PATH="/usr/local/nvidia/lib64"
            LABEL org.opencontainers.image.authors='Union.AI <info@union.ai>'
            LABEL org.opencontainers.image.source=https://github.com/flyteorg/flyte
            RUN if ! id -u flyte >/dev/null 2>&1; then useradd --create-home --shell /bin/bash flyte; fi && \
mkdir -p /home/flyte && chown -R flyte:flyte /home/flyte && chown -R flyte:flyte /root
            WORKDIR /home/flyte
            ENV VIRTUAL_ENV=/opt/venv
            ENV PATH=/opt/venv/bin:$PATH
            ENV PYTHONPATH=/root
            ENV UV_LINK_MODE=copy
            RUN --mount=type=cache,sharing=locked,mode=0777,target=/var/cache/apt,id=apt \\
                apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates
            USER flyte
            WORKDIR /home/flyte
            """
        )
        + f'ENV _F_IMG_ID={standins.IMAGE_URI}\nSHELL ["/bin/bash", "-c"]\n'
    )


def test_a_base_that_is_a_reference_has_a_stand_in(root: Path) -> None:
    image = Image.from_ref_name("gpu").clone(extendable=True).with_pip_packages("httpx")
    build = planned(image, root)
    assert f"\nFROM {standins.BASE_IMAGE}\n" in build.dockerfile
    assert (build.base_reference, build.name) == ("gpu", "gpu")


def test_a_secret_that_two_layers_mount_is_named_once(root: Path) -> None:
    image = BASE.with_apt_packages("git", secret_mounts=TOKEN).with_poetry_project(
        "poems/pyproject.toml", secret_mounts=[TOKEN, "other"]
    )
    assert planned(image, root).secrets == (
        BuildSecret(id=TOKEN_ID, key="token", group="index"),
        BuildSecret(id=LayerSecret(key="other").id, key="other"),
    )


def test_the_secret_of_a_registry_is_kept_apart_from_those_that_are_mounted(root: Path) -> None:
    build = planned(BASE.clone(registry_secret="pull"), root)
    assert build.registry_secret == BuildSecret(id=LayerSecret(key="pull").id, key="pull")
    assert build.secrets == ()


def test_secrets_of_one_name_in_two_groups_are_kept_apart() -> None:
    assert LayerSecret(key="b_c", group="a").id != LayerSecret(key="c", group="a_b").id


def test_platforms_come_in_one_order(root: Path) -> None:
    one = BASE.clone(platform=("linux/arm64", "linux/amd64"))
    assert planned(one, root) == planned(BASE.clone(platform=("linux/amd64", "linux/arm64")), root)


@pytest.mark.parametrize("value", ["two\nlines", "a\rb"])
def test_a_variable_with_a_line_break_is_refused(value: str, root: Path) -> None:
    with pytest.raises(ImageLayerInvalid, match="variable `A` has a line break"):
        planned(BASE.with_env_vars({"A": value}), root)


@pytest.mark.parametrize("name", ["", "A B", "A=B", 'A"'])
def test_a_name_that_is_none_is_refused(name: str, root: Path) -> None:
    with pytest.raises(ImageLayerInvalid, match="is no name of a variable"):
        planned(BASE.with_env_vars({name: "x"}), root)
