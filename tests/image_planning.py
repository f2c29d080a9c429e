"""Images planned in this process: files in a folder, an `Image` of the SDK's, and what comes of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from flyte import Image

from flyte_build.images.context import Seen
from flyte_build.images.plan import Surroundings, plan
from flyte_build.model import ImageBuild
from flyte_build.sdk import images
from flyte_build.state.folder import StateFolder

BASE = Image.from_base("python:3.12").clone(name="job", extendable=True)


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def state(root: Path) -> StateFolder:
    return StateFolder(root / ".flyte-build")


def planned(image: Image, root: Path, *, loaded: tuple[str, ...] = (), seen: Seen | None = None) -> ImageBuild:
    """Plan an image of the target whose root is `root`. `loaded`: what `with_code_bundle` means."""
    seen = Seen() if seen is None else seen
    recipe = images.read_recipe(image, root, lambda _style: loaded, seen)
    around = Surroundings(root=str(root), state=state(root), seen=seen, python=images.DEFAULT_PYTHON)
    return plan(recipe, around, lambda: images.sdk_tag(image))


def archive(build: ImageBuild, root: Path) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(state(root).object(build.context).read_bytes()))


def contents(build: ImageBuild, root: Path) -> dict[str, bytes]:
    """The files of a context, by their place in it."""
    if not build.context:
        return {}
    with archive(build, root) as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
        return {name: file.read() for name, file in files if file is not None}


def layer_lines(build: ImageBuild) -> str:
    """What layers add to the Dockerfile, between what every image begins and ends with."""
    _, _, rest = build.dockerfile.partition('LD_LIBRARY_PATH="/usr/local/nvidia/lib64"\n')
    return rest.partition("ENV _F_IMG_ID=")[0]
