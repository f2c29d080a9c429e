"""How this machine reaches package registries, so that containers reach them as it does.

Read from the machine whenever images are made; nothing of it is written anywhere but into those images.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from pathlib import Path

import msgspec

from tests.engine.shell import run

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_INSIDE = "/etc/ssl/machine.crt"
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "default-timeout", "timeout")
_UV_VARIABLES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_INDEX_STRATEGY", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
)


class Access(msgspec.Struct, frozen=True):
    """What an image needs to install packages."""

    certificates: str
    """A file here with all authorities that this machine trusts."""
    pip: dict[str, str]
    """Settings of pip, by name."""
    uv: dict[str, str]
    """Environment variables of uv."""

    @property
    def variables(self) -> dict[str, str]:
        """What the image sets."""
        return {"SSL_CERT_FILE": _INSIDE, **self.uv}

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(msgspec.json.encode(self) + Path(self.certificates).read_bytes()).digest()

    def put(self, root: Path) -> None:
        """Write the files under the root of an image."""
        certificates = root / _INSIDE.lstrip("/")
        certificates.parent.mkdir(parents=True, exist_ok=True)
        certificates.write_bytes(Path(self.certificates).read_bytes())
        lines = [f"{name} = {value}\n" for name, value in sorted({**self.pip, "cert": _INSIDE}.items())]
        (root / "etc/pip.conf").write_text("[global]\n" + "".join(lines))


def access() -> Access:
    """As pip and uv are set up for whoever runs this."""
    pip = {}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEYS:
            pip[key] = str(ast.literal_eval(value)).strip()
    uv = {name: os.environ[name] for name in _UV_VARIABLES if name in os.environ}
    if "index-url" in pip and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & uv.keys():
        uv["UV_DEFAULT_INDEX"] = pip["index-url"]
    return Access(certificates=os.environ.get("SSL_CERT_FILE", _CERTIFICATES), pip=pip, uv=uv)
