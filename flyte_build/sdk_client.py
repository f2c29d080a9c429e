"""The SDK's authenticated client, without what the SDK needs to load code.

Private parts are listed here, as in `flyte_build.sdk`, and looked up by the same test.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import flyte.errors
from flyte._initialize import _initialize_client, _platform_to_client_kwargs

from flyte_build.errors import BackendUnreachable, CredentialsUnusable
from flyte_build.model import BackendSettings

if TYPE_CHECKING:
    from flyte.config._config import PlatformConfig


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Have imports not find a module that they can do without."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault(module, None)
    try:
        yield
    finally:
        if modules[module] is None:
            del modules[module]


with _without("httpx._main"):  # httpx's own command, with which the client takes a tenth longer to import
    from flyte.remote._client.controlplane import ClientSet

PRIVATE_NAMES = (
    "flyte._initialize._initialize_client",
    "flyte._initialize._platform_to_client_kwargs",
    "flyte.remote._client.auth._auth_utils.decode_api_key",
    "flyte.remote._client.auth.errors.AccessTokenNotFoundError",
    "flyte.remote._client.auth.errors.AuthenticationError",
    "flyte.remote._client.auth.errors.AuthenticationPending",
    "flyte.remote._client.controlplane.ClientSet",
    "flyte._utils.sanitize_endpoint",
)


async def connect(settings: BackendSettings) -> ClientSet:
    """The SDK's authenticated client, for the event loop that this runs on. Retries are the caller's.

    Credentials come from `FLYTE_API_KEY`, else from the configuration file, else from a login in the browser, as with
    the SDK. Nothing is sent yet, unless the server's certificate has to be fetched.

    Raises:
        CredentialsUnusable: the API key is malformed or another endpoint's, or a file that holds a secret is not there.
        BackendUnreachable: the endpoint is no address, or its certificate cannot be fetched.
    """
    logging.getLogger("flyte").setLevel(logging.CRITICAL)
    platform = _platform(settings)
    options = {**_platform_to_client_kwargs(platform), "rpc_retries": 0}
    try:
        return await _initialize_client(**options, disable_keyring=platform.disable_keyring)
    except flyte.errors.InitializationError as error:
        raise BackendUnreachable(endpoint=settings.endpoint, reason=str(error)) from error
    except OSError as error:
        raise _unreadable(settings, error) from error


def login_errors() -> tuple[type[Exception], ...]:
    """What the client raises when a login fails, beside Connect's own errors."""
    import httpx
    from flyte.remote._client.auth import errors

    return (
        httpx.HTTPError,
        errors.AccessTokenNotFoundError,
        errors.AuthenticationError,
        errors.AuthenticationPending,
        flyte.errors.InitializationError,
    )


def _platform(settings: BackendSettings) -> PlatformConfig:
    """Where to connect, from the settings; how to log in, from the configuration file or the API key."""
    from flyte._utils import sanitize_endpoint
    from flyte.config import Config
    from flyte.config._config import PlatformConfig

    try:
        endpoint = sanitize_endpoint(settings.endpoint)
        base = Config.auto(settings.config).platform if settings.config else PlatformConfig()
    except RuntimeError as error:
        reason = "the address starts with none of `dns:///`, `https://`, `http://`"
        raise BackendUnreachable(endpoint=settings.endpoint, reason=reason) from error
    except OSError as error:
        raise _unreadable(settings, error) from error
    key = "" if settings.insecure else os.environ.get("FLYTE_API_KEY", "")
    login = _login(key, endpoint) if key else {}
    return base.replace(endpoint=endpoint, insecure=settings.insecure, **login)


def _login(api_key: str, endpoint: str | None) -> dict[str, str]:
    """The credentials in an API key. They are sent to no endpoint but their own."""
    from flyte._utils import sanitize_endpoint
    from flyte.remote._client.auth._auth_utils import decode_api_key

    try:
        given, client_id, secret, _ = decode_api_key(api_key)
        owner = sanitize_endpoint(given)
    except (ValueError, RuntimeError) as error:
        raise CredentialsUnusable(
            source="FLYTE_API_KEY", reason="it is not an API key", mend="correct it, or unset it"
        ) from error
    if owner != endpoint:
        reason = f"it is a key of `{owner}`, and `endpoint` is `{endpoint}`"
        raise CredentialsUnusable(source="FLYTE_API_KEY", reason=reason, mend="unset it, or set the other endpoint")
    return {"client_id": client_id, "client_credentials_secret": secret, "auth_mode": "ClientSecret"}


def _unreadable(settings: BackendSettings, error: OSError) -> CredentialsUnusable:
    reason = f"cannot read `{error.filename}`: {error.strerror}"
    return CredentialsUnusable(
        source=settings.config or settings.endpoint, reason=reason, mend="correct the path there"
    )
