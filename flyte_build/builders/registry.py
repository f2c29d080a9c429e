"""Asks a registry what it has, by its HTTP API: there, absent or unknown. Unknown is never taken for either.

The API is that of the OCI distribution specification; credentials are those that `docker login` left.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flyte_build.images.references import DOCKER_HUB, Reference
from flyte_build.model import Value
from flyte_build.once import once

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
_VERSION_HEADER = "docker-distribution-api-version"
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Found(Value, frozen=True, tag="found"):
    digest: str
    platforms: tuple[str, ...]
    """Such as `linux/amd64`."""


class Absent(Value, frozen=True, tag="absent"):
    """The registry answered that it has no such image."""


class Unknown(Value, frozen=True, tag="unknown"):
    reason: str


class Elsewhere(Value, frozen=True, tag="elsewhere"):
    """What answers there is no registry."""

    address: str
    """Of the manifest that was asked for."""
    said: str
    """Status and kind of the answer."""


class Misnamed(Value, frozen=True, tag="misnamed"):
    """No server can have the registry's name."""

    reason: str


Answer = Found | Absent | Unknown | Elsewhere | Misnamed
_Address = tuple[str, str]
"""A registry, and a repository in it."""


class _Refused(Exception):
    """An answer that says nothing of whether the image is there."""


class _NoRegistry(Exception):
    """An answer that no registry gives."""

    def __init__(self, address: str, said: str) -> None:
        super().__init__(address, said)
        self.address, self.said = address, said


class Registries:
    """All registries that a run asks, over connections that are kept, and with one login each. Threads may share it."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._authorizations: dict[_Address, dict[str, str]] = {}
        self._logins: dict[str, dict[str, str]] = {}
        self._reading_logins = threading.Lock()
        self._unreadable: dict[str, str] = {}
        """Why the login for a registry cannot be read."""
        self._refusals: dict[_Address, str] = {}
        """What was said to a login. It may still be good for other repositories: some registries say 401 of one."""
        self._gone: dict[str, Unknown] = {}
        """Registries that did not answer, however often they were asked: there is no use in asking anything more."""

    def ask(self, reference: Reference) -> Answer:
        """Whether a registry has an image, under which digest, and for which platforms."""
        import httpx

        if gone := self._gone.get(reference.registry):
            return gone
        try:
            registry = _Registry(self, reference)
        except httpx.InvalidURL as error:
            return Misnamed(reason=_in_short(error))
        except UnicodeError:
            return Misnamed(reason="a part of its name is empty or too long")
        try:
            return registry.find()
        except _Refused as refused:
            return Unknown(reason=str(refused))
        except _NoRegistry as other:
            return Elsewhere(address=other.address, said=other.said)
        except (ValueError, LookupError, TypeError, AttributeError, httpx.InvalidURL):  # such as the page of a proxy
            return Unknown(reason="what it answers is not what a registry says")
        except httpx.TimeoutException:
            gone = Unknown(reason="it did not answer in time")
        except httpx.HTTPError as error:
            gone = Unknown(reason=f"it cannot be reached: {error}")
        self._gone[reference.registry] = gone
        return gone

    def close(self) -> None:
        """Let go of the connections, if there are any."""
        if "client" in vars(self):
            self.client.close()

    @once
    def client(self) -> httpx.Client:
        import httpx

        return httpx.Client(timeout=TIMEOUT, follow_redirects=True)

    def authorization(self, address: _Address) -> dict[str, str]:
        """The header that a registry took last for a repository, if any."""
        return self._authorizations.get(address, {})

    def authorize(self, address: _Address, challenge: str) -> dict[str, str]:
        """The header that answers a registry's challenge.

        Raises:
            _Refused: the credentials are not good for it, or what should judge them fails.
        """
        if address in self._refusals:
            raise _Refused(self._refusals[address])
        kind, _, rest = challenge.partition(" ")
        login = self._login(address[0])
        if kind.lower() == "basic":
            header = _basic(login)
        else:
            asked = dict(_PARAMETER.findall(rest))
            if kind.lower() != "bearer" or "realm" not in asked:
                raise _Refused("it asks for a login of a kind that is not known")
            header = {"authorization": f"Bearer {self._token(address, asked, login)}"}
        self._authorizations[address] = header
        return header

    def refuse(self, address: _Address, said: str) -> _Refused:
        """The error that a login is refused, to be told of a repository from now on without another try."""
        self._refusals[address] = said
        self._authorizations.pop(address, None)  # else it would be sent along with whatever is asked next
        return _Refused(said)

    def insist(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer to a request, which is sent again as long as it meets with what may pass."""
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = send()
            except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError):
                if attempt == ATTEMPTS:
                    raise
            else:
                if response.status_code not in _TRANSIENT or attempt == ATTEMPTS:
                    return response
            self._sleep(FIRST_DELAY * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _login(self, registry: str) -> dict[str, str]:
        with self._reading_logins:  # a keychain is asked once: some show a window
            if registry in self._unreadable:
                raise _Refused(self._unreadable[registry])
            if registry not in self._logins:
                try:
                    self._logins[registry] = credentials(registry)
                except _Refused as refused:
                    self._unreadable[registry] = str(refused)
                    raise
            return self._logins[registry]

    def _token(self, address: _Address, asked: Mapping[str, str], login: Mapping[str, str]) -> str:
        scope = asked.get("scope", f"repository:{address[1]}:pull")
        form = {"service": asked.get("service", ""), "scope": scope}
        if identity := login.get("IdentityToken") or login.get("identitytoken"):
            form |= {"grant_type": "refresh_token", "refresh_token": identity, "client_id": "flyte_build"}
            response = self.insist(lambda: self.client.post(asked["realm"], data=form))
        else:
            response = self.insist(lambda: self.client.get(asked["realm"], params=form, headers=_basic(login)))
        if response.status_code in _TRANSIENT:  # says nothing of the login, so it is not remembered
            raise _Refused(f"what gives out its tokens fails: {_words(response)}")
        if response.status_code != 200:
            raise self.refuse(address, f"it refuses the login: {_words(response)}")
        answer: dict[str, Any] = response.json()
        return str(answer.get("token") or answer.get("access_token", ""))


def is_loopback(registry: str) -> bool:
    """Registries on this machine are spoken to without TLS, as Docker does."""
    return bool(_LOOPBACK.match(registry))


class _Registry:
    """One registry, and the right to read one repository in it."""

    def __init__(self, registries: Registries, reference: Reference) -> None:
        import httpx

        host = _HUB_HOST if reference.registry == DOCKER_HUB else reference.registry
        scheme = "http" if is_loopback(host) else "https"
        root = httpx.URL(f"{scheme}://{host}/v2/")
        root.host.encode("idna")  # as it is looked up
        self._root = str(root)
        self._registries = registries
        self._reference = reference
        self._address = (reference.registry, reference.repository)
        self._proven = False
        """Whether it has given something that registries give."""

    def find(self) -> Answer:
        response = self._get(f"/manifests/{self._reference.manifest}", accept=_ACCEPT)
        if response is None:
            return Absent()
        manifest = response.json()
        self._proven = True
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
            _NoRegistry: it is none.
        """
        url = f"{self._root}{self._reference.repository}{path}"
        response = self._try(url, accept)
        if response.status_code == 401:  # asked for the first time, or what it gave then is not good any more
            self._registries.authorize(self._address, response.headers.get("www-authenticate", ""))
            response = self._try(url, accept)
            if response.status_code == 401:
                raise self._registries.refuse(self._address, _words(response))
        if response.status_code == 404:
            if not (self._proven or _is_registry_s(response) or self._is_registry()):
                raise _NoRegistry(url, f"{response.status_code} and {_kind(response)}")
            return None
        if response.status_code != 200:
            raise _Refused(_words(response))
        return response

    def _is_registry(self) -> bool:
        """Whether the root of its API is there, as for those whose "no" is a bare 404: a page is none."""
        root = self._try(self._root, "*/*")
        return _is_registry_s(root) or (root.status_code in (200, 401) and "html" not in _kind(root))

    def _try(self, url: str, accept: str) -> httpx.Response:
        def send() -> httpx.Response:
            headers = {"accept": accept, **self._registries.authorization(self._address)}
            return self._registries.client.get(url, headers=headers)

        return self._registries.insist(send)


def _is_registry_s(response: httpx.Response) -> bool:
    """Whether an answer is one that registries give: by its header, or by errors of their form with whatever codes."""
    if _VERSION_HEADER in response.headers:
        return True
    try:
        said = response.json()
    except ValueError:
        return False
    return isinstance(said, dict) and isinstance(said.get("errors"), list)


def _kind(response: httpx.Response) -> str:
    """What an answer is, for people."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind or ("something of no kind" if response.content else "nothing")


def credentials(registry: str) -> dict[str, str]:
    """What `docker login` keeps for a registry, in its file or in the system's keychain; empty: nothing.

    Raises:
        _Refused: the file or the keychain cannot be read.
    """
    from docker import auth
    from docker.errors import DockerException

    name = _HUB_LOGIN if registry == DOCKER_HUB else registry
    try:
        config = auth.load_config()
        store = config.get_credential_store(name)
        helper = f"docker-credential-{store}"
        if store and not shutil.which(helper):  # the library would warn of it, which is no business of the user's
            raise _Refused(f"the login that Docker keeps for it cannot be read: there is no `{helper}` on the PATH")
        found = config.resolve_authconfig(name)
    except DockerException as error:
        raise _Refused(f"the login that Docker keeps for it cannot be read: {error}") from error
    return {key: str(value) for key, value in (found or {}).items() if value}


def _in_short(error: Exception) -> str:
    """What is wrong with a URL, as part of a sentence."""
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]


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
