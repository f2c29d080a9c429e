"""Asks a registry what it has, by its HTTP API: there, absent or unknown. Unknown is never taken for either.

The API is that of the OCI distribution specification; credentials are those that `docker login` left.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flyte_build.images.references import DOCKER_HUB, Reference
from flyte_build.model import Value

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 4
FIRST_DELAY = 0.5
"""Seconds; each later one is twice as long."""
TIMEOUT = 20.0
"""Seconds without a byte."""

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = ", ".join((*_INDEXES, *_MANIFESTS))
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_HUB_HOST = "registry-1.docker.io"
_HUB_LOGIN = "https://index.docker.io/v1/"
_LOOPBACK = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$")
_USUAL = {"linux/arm64/v8": "linux/arm64", "linux/amd64/v1": "linux/amd64", "linux/arm": "linux/arm/v7"}
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Found(Value, frozen=True, tag="found"):
    digest: str
    platforms: tuple[str, ...]
    """Such as `linux/amd64`."""


class Absent(Value, frozen=True, tag="absent"):
    """The registry answered that it has no such image."""


class Unknown(Value, frozen=True, tag="unknown"):
    reason: str


Answer = Found | Absent | Unknown


class _Refused(Exception):
    """An answer that says nothing of whether the image is there."""


def ask(reference: Reference, sleep: Callable[[float], None] = time.sleep) -> Answer:
    """Whether a registry has an image, under which digest, and for which platforms."""
    import httpx

    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        registry = _Registry(client, reference, sleep)
        try:
            return registry.find()
        except _Refused as refused:
            return Unknown(reason=str(refused))
        except (ValueError, LookupError, TypeError, AttributeError):  # such as the page of a proxy
            return Unknown(reason="what it answers is not what a registry says")
        except httpx.TimeoutException:
            return Unknown(reason="it did not answer in time")
        except httpx.HTTPError as error:
            return Unknown(reason=f"it cannot be reached: {error}")


def is_loopback(registry: str) -> bool:
    """Registries on this machine are spoken to without TLS, as Docker does."""
    return bool(_LOOPBACK.match(registry))


class _Registry:
    """One registry, and the right to read one repository in it."""

    def __init__(self, client: httpx.Client, reference: Reference, sleep: Callable[[float], None]) -> None:
        host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        scheme = "http" if is_loopback(host) else "https"
        self._base = f"{scheme}://{host}/v2/{reference.repository}"
        self._client = client
        self._reference = reference
        self._sleep = sleep
        self._authorization: dict[str, str] = {}

    def find(self) -> Answer:
        response = self._get(f"/manifests/{self._reference.manifest}", accept=_ACCEPT)
        if response is None:
            return Absent()
        manifest = response.json()
        digest = response.headers.get("docker-content-digest") or _digest(response.content)
        if response.headers.get("content-type", "").split(";")[0] in _INDEXES or "manifests" in manifest:
            listed = (entry.get("platform", {}) for entry in manifest["manifests"])
            # An index also lists attestations, as of an unknown system.
            named = (each for each in listed if each.get("os", "unknown") != "unknown")
            return Found(digest=digest, platforms=tuple(map(_platform, named)))
        config = self._get(f"/blobs/{manifest['config']['digest']}", accept="*/*")
        if config is None:
            return Absent()  # a manifest without its content cannot be pulled
        return Found(digest=digest, platforms=(_platform(config.json()),))

    def _get(self, path: str, *, accept: str) -> httpx.Response | None:
        """A response that holds what was asked for; None when the registry has no such thing.

        Raises:
            _Refused: it does not say.
        """
        response = self._try(path, accept)
        if response.status_code == 401 and not self._authorization:
            self._authorization = self._authorize(response.headers.get("www-authenticate", ""))
            response = self._try(path, accept)
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise _Refused(_words(response))
        return response

    def _try(self, path: str, accept: str) -> httpx.Response:
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            try:
                headers = {"accept": accept, **self._authorization}
                response = self._client.get(f"{self._base}{path}", headers=headers)
            except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError):
                if attempt == ATTEMPTS:
                    raise
            else:
                if response.status_code not in _TRANSIENT or attempt == ATTEMPTS:
                    return response
            self._sleep(FIRST_DELAY * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _authorize(self, challenge: str) -> dict[str, str]:
        """The header that answers a registry's challenge.

        Raises:
            _Refused: the credentials are not good for it.
        """
        kind, _, rest = challenge.partition(" ")
        login = credentials(self._reference.registry)
        if kind.lower() == "basic":
            return _basic(login)
        asked = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or "realm" not in asked:
            raise _Refused("it asks for a login of a kind that is not known")
        return {"authorization": f"Bearer {self._token(asked, login)}"}

    def _token(self, asked: Mapping[str, str], login: Mapping[str, str]) -> str:
        scope = asked.get("scope", f"repository:{self._reference.repository}:pull")
        form = {"service": asked.get("service", ""), "scope": scope}
        if identity := login.get("IdentityToken") or login.get("identitytoken"):
            form |= {"grant_type": "refresh_token", "refresh_token": identity, "client_id": "flyte_build"}
            response = self._client.post(asked["realm"], data=form)
        else:
            response = self._client.get(asked["realm"], params=form, headers=_basic(login))
        if response.status_code != 200:
            raise _Refused(f"it refuses the login: {_words(response)}")
        answer: dict[str, Any] = response.json()
        return str(answer.get("token") or answer.get("access_token", ""))


def credentials(registry: str) -> dict[str, str]:
    """What `docker login` keeps for a registry, in its file or in the system's keychain; empty: nothing.

    Raises:
        _Refused: the file or the keychain cannot be read.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of, it raises too
            found = auth.load_config().resolve_authconfig(_HUB_LOGIN if registry == DOCKER_HUB else registry)
    except DockerException as error:
        raise _Refused(f"the login that Docker keeps for it cannot be read: {error}") from error
    return {key: str(value) for key, value in (found or {}).items() if value}


def _digest(manifest: bytes) -> str:
    """What a registry knows a manifest by, where it does not say it."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _basic(login: Mapping[str, str]) -> dict[str, str]:
    user = login.get("username") or login.get("Username", "")
    password = login.get("password") or login.get("Password", "")
    if not user:
        return {}
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _platform(described: Mapping[str, Any]) -> str:
    parts = (described.get(name, "") for name in ("os", "architecture", "variant"))
    return normal_platform("/".join(filter(None, parts)))


def normal_platform(platform: str) -> str:
    """A platform as containerd writes it: a variant that is taken for granted is left out, or for arm put in."""
    return _USUAL.get(platform, platform)


def _words(response: httpx.Response) -> str:
    """Status and the registry's own words. Nothing that was sent is repeated."""
    try:
        errors = response.json().get("errors") or [{}]
        said = errors[0].get("message") or errors[0].get("code") or ""
    except (ValueError, AttributeError, IndexError):
        said = ""
    return f"{response.status_code} {said or response.reason_phrase}".rstrip()
