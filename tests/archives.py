"""Archives to put into stores."""

from __future__ import annotations

import random
from pathlib import Path

from flyte_build.model import Bundle, BundleFile
from flyte_build.state import digest

MIB = 1 << 20


def archive_of(folder: Path, data: bytes = b"the bytes of a bundle", *, name: bytes = b"") -> tuple[Bundle, Path]:
    """A file that holds `data`, and the bundle that it stands for. `name`: the content that the name is made of."""
    file = BundleFile(path="main.py", digest=digest.of_bytes(name or data), size=len(data))
    bundle = Bundle(digest=file.digest, files=(file,), archive_size=len(data))
    archive = folder / f"archive-{len(data)}-{digest.of_bytes(data)}"
    archive.write_bytes(data)
    return bundle, archive


def noise(size: int) -> bytes:
    """Bytes in which no two parts are alike; the same on each call."""
    return random.Random(size).randbytes(size)
