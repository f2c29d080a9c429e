"""The images that builds would pull from outside, made here, named as outside in the engine, pushed to the registry.

Each is keyed by all that goes into it: what is there already is not made again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tests.engine import machine, packages
from tests.engine.dockers import Docker
from tests.engine.folder import Folder, Record, Unavailable
from tests.engine.shell import run, say

_BUILDKIT = "v0.16.0"
"""Of the module that docker/dockerfile:1.10 is the frontend of."""

_FRONTEND = """\
FROM scratch
LABEL moby.buildkit.frontend.network.none="true"
LABEL moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,\
moby.buildkit.frontend.contexts"
COPY dockerfile-frontend /bin/dockerfile-frontend
ENTRYPOINT ["/bin/dockerfile-frontend"]
"""

_UV = """\
FROM scratch
COPY uv uvx /
ENTRYPOINT ["/uv"]
"""

_PYTHON = """\
FROM scratch
ADD rootfs.tar /
COPY machine /
RUN ln -s /usr/bin/python3 /usr/local/bin/python
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 {variables}
CMD ["python3"]
"""

_FLYTE = """\
FROM {uv} AS uv
FROM {python}
COPY --from=uv /uv /usr/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUALENV=/opt/venv UV_PYTHON=/opt/venv/bin/python \
VIRTUAL_ENV=/opt/venv PYTHONPATH=/root PATH=/opt/venv/bin:$PATH
RUN useradd --create-home --shell /bin/bash flyte && chown -R flyte:flyte /home/flyte /root \
&& uv venv /opt/venv --python={release} \
&& UV_COMPILE_BYTECODE=0 uv pip install --no-cache --python /opt/venv/bin/python flyte=={flyte}
SHELL ["/bin/bash", "-c"]
USER flyte
WORKDIR /home/flyte
"""


class Image(msgspec.Struct, frozen=True):
    """One image and how it is made."""

    name: str
    """As builds name it, without a mirror."""
    dockerfile: str
    files: tuple[Path, ...] = ()
    """Files and folders of its context; their paths tell their content, but for what is read off the machine."""
    also: tuple[str, ...] = ()
    """More names."""


class Parts(msgspec.Struct, frozen=True):
    """Files that images are made of."""

    frontend: Path
    rootfs: Path
    uv: tuple[Path, ...]
    machine: Path


def make(folder: Folder, docker: Docker, record: Record) -> None:
    """Make what is missing or out of date."""
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    syntax, uv = outside_names()
    parts = Parts(
        frontend=folder.made / _BUILDKIT / "dockerfile-frontend",
        rootfs=folder.made / f"{packages.codename()}-{release}" / "rootfs.tar",
        uv=tuple(folder.made / uv.rpartition("/")[2].replace(":", "-") / name for name in ("uv", "uvx")),
        machine=folder.made / "machine",
    )
    access = machine.access()
    images = _images(release, syntax, uv, parts=parts, variables=access.variables)
    made = _made(folder)
    keys = {image.name: _key(image, record.registry, access) for image in images}
    wanted = [image for image in images if made.get(image.name) != keys[image.name]]
    if not wanted:
        return
    with ThreadPoolExecutor() as pool:
        pending = [
            pool.submit(_build_frontend, parts.frontend),
            pool.submit(_debootstrap, parts.rootfs, release),
            pool.submit(_unpack_uv, parts.uv, uv.rpartition(":")[2]),
            pool.submit(access.put, parts.machine),
        ]
    for part in pending:
        part.result()
    for image in wanted:
        _build(docker, record, image, folder.root)
        made[image.name] = keys[image.name]
        folder.images.write_bytes(msgspec.json.encode(made))


def _images(release: str, syntax: str, uv: str, *, parts: Parts, variables: Mapping[str, str]) -> tuple[Image, ...]:
    """All of them, each after those that it is made from."""
    words = " ".join(f'{name}="{value}"' for name, value in sorted(variables.items()))
    sdk = version("flyte")
    python = f"python:{release}-slim-bookworm"
    flyte = _FLYTE.format(uv=uv, python=python, release=release, flyte=sdk)
    return (
        Image(uv, _UV, parts.uv),
        Image(syntax, _FRONTEND, (parts.frontend,)),
        Image(python, _PYTHON.format(variables=words), (parts.rootfs, parts.machine), also=(f"library/{python}",)),
        Image(f"ghcr.io/flyteorg/flyte:py{release}-v{sdk}", flyte),
    )


def mirrored(name: str, record: Record) -> str:
    """Where the registry has an image that builds know by an outside name."""
    host, slash, path = name.partition("/")
    if slash and host in record.mirrors:
        return f"{record.mirrors[host]}/{path}"
    return f"{record.mirrors['docker.io']}/{name}"


def _build(docker: Docker, record: Record, image: Image, folder: Path) -> None:
    say(f"making {image.name}")
    environ = {**os.environ, **docker.environment}
    client = docker.programs.docker
    with tempfile.TemporaryDirectory(dir=folder) as context:
        for path in image.files:
            run("cp", "--archive", "--link", str(path), context)
        (Path(context) / "Dockerfile").write_text(image.dockerfile)
        outside = (image.name, *image.also)
        inside = [mirrored(name, record) for name in outside]
        tags = [word for name in (*outside, *inside) for word in ("--tag", name)]
        run(client, "buildx", "build", "--provenance=false", "--progress=plain", *tags, context, environ=environ)
        for name in inside:
            run(client, "push", "--quiet", name, environ=environ)


def _made(folder: Folder) -> dict[str, str]:
    """Name -> key of the images that are there."""
    try:
        return msgspec.json.decode(folder.images.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}


def _key(image: Image, registry: str, access: machine.Access) -> str:
    """A digest of what decides an image, and where it is."""
    recipe = msgspec.json.encode([image.dockerfile, [str(path) for path in image.files], registry])
    return hashlib.sha256(recipe + access.digest).hexdigest()


def outside_names() -> tuple[str, str]:
    """The frontend and the uv image that the installed SDK's Dockerfiles name."""
    spec = find_spec("flyte")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    text = (Path(spec.submodule_search_locations[0]) / "_internal/imagebuild/docker_builder.py").read_text()
    syntax = re.search(r"^# syntax=(\S+)$", text, re.MULTILINE)
    uv = re.search(r"^FROM (\S+) AS uv$", text, re.MULTILINE)
    if syntax is None or uv is None:
        raise Unavailable("the installed SDK's Dockerfile is of another form; bring tests/engine/images.py up to date")
    return syntax[1], uv[1]


def _build_frontend(program: Path) -> None:
    """BuildKit's own Dockerfile frontend, compiled from its module."""
    if program.exists():
        return
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise Unavailable("making docker/dockerfile takes Go 1.21 or newer on the PATH")
    say("compiling the Dockerfile frontend")
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    with _scratch(program) as scratch:
        module = f"github.com/moby/buildkit@{_BUILDKIT}"
        there = msgspec.json.decode(run(go, "mod", "download", "-json", module, environ=environ, folder=scratch))
        built = scratch / program.name
        flags = ("-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", str(built))
        source = "./frontend/dockerfile/cmd/dockerfile-frontend"
        run(go, "build", *flags, source, environ=environ, folder=Path(there["Dir"]))
        built.rename(program)


def _debootstrap(archive: Path, release: str) -> None:
    """A minimal Debian of this system's release, with its Python."""
    if archive.exists():
        return
    say("making a minimal Debian")
    codename = packages.codename()
    with _scratch(archive) as scratch:
        root = scratch / "root"
        include = "--include=python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", include, codename, str(root), packages.archive())
        if not (root / f"usr/bin/python{release}").exists():
            raise Unavailable(f"{codename} has another Python than {release}; run this with the system's own")
        unwanted = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./dev/*")
        excluded = [f"--exclude={pattern}" for pattern in unwanted]
        built = scratch / archive.name
        run("tar", "--create", "--file", str(built), "--directory", str(root), *excluded, ".")
        built.rename(archive)


def _unpack_uv(programs: tuple[Path, ...], release: str) -> None:
    """The programs of uv's wheel."""
    if all(path.exists() for path in programs):
        return
    with _scratch(programs[0]) as scratch:
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), f"uv=={release}")
        (wheel,) = scratch.glob("*.whl")
        with zipfile.ZipFile(wheel) as content:
            for path in programs:
                path.write_bytes(content.read(f"uv-{release}.data/scripts/{path.name}"))
                path.chmod(0o755)


@contextmanager
def _scratch(product: Path) -> Iterator[Path]:
    """A folder to make a file in, on the file system where it goes."""
    product.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=product.parent) as folder:
        yield Path(folder)
