"""Upload: put a target's bundle into the store, unless it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyte_build.model import StoreSettings, Target, Upload, Value
from flyte_build.steps import Outcome, bundle

if TYPE_CHECKING:
    from flyte_build.project import Project

NAME = "upload"
FORMAT = 1
_FILE = "file://"


class Key(Value, frozen=True):
    """All that the bundle's URI may depend on. What is said of the backend is empty unless it signs the URLs."""

    format: int
    bundle: str
    """Digest; empty when there is no bundle."""
    store: StoreSettings
    place: dict[str, str] = {}
    """Where variables and files of the store's client lead it, as far as the settings leave that open."""
    endpoint: str = ""
    project: str = ""
    domain: str = ""
    org: str = ""


def key(project: Project, target: Target) -> Key:
    store, backend = project.manifest.store, project.manifest.backend
    digest = project.result(target.name, bundle.NAME, bundle.Result).digest
    if store.url != "backend":
        return Key(format=FORMAT, bundle=digest, store=store, place=project.place_of_store)
    return Key(
        format=FORMAT,
        bundle=digest,
        store=store,
        endpoint=backend.endpoint,
        project=backend.project,
        domain=backend.domain,
        org=backend.org,
    )


def run(project: Project, target: Target) -> Outcome:
    """Send the archive.

    Raises:
        StepError: the store cannot be reached or written.
    """
    packed = bundle.load(project, target)
    if packed is None:
        return Outcome(result=Upload(uri="", sent=False), summary="no bundle")
    sent = project.store().put(packed, bundle.archive(project, packed))
    return Outcome(
        result=sent,
        outputs=_local_copy(project, sent.uri, packed.filename),
        summary=f"{'sent' if sent.sent else 'already there'}, {packed.archive_size:,} bytes",
    )


def _local_copy(project: Project, uri: str, filename: str) -> dict[str, str]:
    """Where the store is a folder here, the copy itself is watched: deleted, it is made again."""
    if not uri.startswith(_FILE):
        return {}
    return {uri.removeprefix(_FILE): project.index.digest(str(project.state.bundles / filename))}
