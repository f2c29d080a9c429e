"""References to images, as `docker` reads them: `REGISTRY/REPOSITORY:TAG@DIGEST`.

The rules are those of the reference grammar of github.com/distribution/reference: the first part is a registry when it
has a dot or a colon, or is `localhost`; all else is on Docker Hub, where `python` means `library/python`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flyte_build.model import Value

DOCKER_HUB = "docker.io"


class Reference(Value, frozen=True):
    """An image reference, complete."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def manifest(self) -> str:
        """What the registry knows it by."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """A reference as somebody wrote it, with what Docker fills in."""
    rest, _, digest = text.partition("@")
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    first, slash, below = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, below
    else:
        registry, repository = DOCKER_HUB, path if slash else f"library/{path}"
    return Reference(
        registry=DOCKER_HUB if registry == "index.docker.io" else registry,
        repository=repository,
        tag=tag,
        digest=digest,
    )


def mirrored(text: str, mirrors: Mapping[str, str]) -> str:
    """The reference under which a mirror has an image; the text itself when none has it.

    A mirror stands for a registry, or for a part of one: the longest that fits counts.
    """
    reference = parse(text)
    for prefix in sorted(mirrors, key=len, reverse=True):
        if reference.name == prefix or reference.name.startswith(f"{prefix}/"):
            below = reference.name.removeprefix(prefix)
            return str(reference).replace(f"{prefix}{below}", f"{mirrors[prefix].rstrip('/')}{below}", 1)
    return text
