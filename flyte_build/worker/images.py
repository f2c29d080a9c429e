"""Plans the images of a target's environments, each once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flyte_build import errors, ignore, sdk
from flyte_build.images.context import Seen
from flyte_build.images.plan import Surroundings, plan
from flyte_build.model import ImageBuild, ImageDraft
from flyte_build.sdk import Image, images
from flyte_build.state.folder import StateFolder
from flyte_build.worker.protocol import LoadRequest
from flyte_build.worker.record import Recorder


class ImagePlanner:
    """Plans for one load."""

    def __init__(self, request: LoadRequest, root: Path, loaded: tuple[str, ...]) -> None:
        """`loaded`: files under the root that were imported, relative to it."""
        self._request, self._root, self._loaded = request, root, loaded
        self._seen = Seen()
        self._planned: dict[int, ImageDraft] = {}

    def plan_all(self, environments: Iterable[sdk.TaskEnvironment], recorder: Recorder) -> dict[str, ImageDraft]:
        """Environment -> what it says about its image. What planning read is recorded, also when it fails.

        Raises:
            ImageError: an image has to be built, and cannot.
        """
        try:
            return {environment.name: self._draft(environment) for environment in environments}
        finally:
            recorder.add(self._seen.files, self._seen.folders, self._seen.missing)

    def _draft(self, environment: sdk.TaskEnvironment) -> ImageDraft:
        image = environment.image
        if id(image) not in self._planned:
            has_code = self._request.target.copy_style == "none"
            try:
                self._planned[id(image)] = sdk.draft_image(image, self._plan, has_code=has_code)
            except errors.ImageError as error:
                file = self._shown(sdk.declaring_file(environment))
                raise self._with_shown_path(error).of(environment.name, file) from error
        return self._planned[id(image)]

    def _plan(self, image: Image) -> ImageBuild:
        around = Surroundings(
            root=str(self._root),
            state=StateFolder(Path(self._request.state)),
            seen=self._seen,
            python=images.DEFAULT_PYTHON,
        )
        recipe = images.read_recipe(image, self._root, self._code, self._seen)
        return plan(recipe, around, lambda: images.sdk_tag(image))

    def _code(self, copy_style: str) -> tuple[str, ...]:
        """What a bundle of that style would hold: for `all`, everything under the root but what is ignored."""
        if copy_style != "all":
            return self._loaded
        rules = ignore.load(self._root, self._request.target.exclude)
        scan = ignore.scan(self._root, rules)
        for path, content in (*rules.files.items(), *scan.ignore_files.items()):
            self._seen.files.setdefault(self._absolute(path), content)
        self._seen.folders.update({self._absolute(path): entries for path, entries in scan.folders.items()})
        self._seen.missing.update(map(self._absolute, (*rules.missing, *scan.missing)))
        return scan.files

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._root, path))

    def _shown(self, path: str) -> str:
        """A path as the user writes it: relative to the manifest's folder when it is in there."""
        folder = self._request.folder
        return os.path.relpath(path, folder) if path.startswith(os.path.join(folder, "")) else path

    def _with_shown_path(self, error: errors.ImageError) -> errors.ImageError:
        fields = {
            name: value.replace(os.path.join(self._request.folder, ""), "") for name, value in vars(error).items()
        }
        return type(error)(**fields)
