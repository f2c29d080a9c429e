"""A fresh checkout with a warm shared cache and nothing changed: what a CI machine that has nothing takes.

    python -m bench.shared_cache 40 100 --repeat 3

prints medians in seconds, with the cache in a folder and in S3 (a moto server in a process of its own, whose own
time counts: it answers some 400 requests per second). The first deploy is of another checkout at another path.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.monorepo import generate

SCRIPTS = Path(sys.executable).parent
SCENARIO = "fresh checkout, shared cache, nothing changed"


def measure(
    folder: Path, services: int, endpoint: str, cache: str, *, repeat: int, environ: Mapping[str, str]
) -> float:
    """Median seconds of `doit deploy` in a checkout that has nothing, after one of another checkout filled the cache.

    Args:
        folder: an empty one to work in.
        services: size of the monorepo.
        endpoint: of the control plane.
        cache: lines of the manifest's `[cache]`.
        repeat: how often it is measured.
        environ: variables besides PATH and HOME, such as credentials.
    """
    settings = f'[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n[cache]\n{cache}\n'
    deploy(checkout(folder / "first", services, settings), environ)
    fresh = checkout(folder / "another" / "path", services, settings)
    seconds = []
    for _ in range(repeat):
        shutil.rmtree(fresh / ".flyte-build", ignore_errors=True)
        started = time.perf_counter()
        said = deploy(fresh, environ)
        seconds.append(time.perf_counter() - started)
        if f"{services} targets: {services} fresh" not in said:
            raise SystemExit(f"not everything came from the shared cache\n{said}")
    return statistics.median(seconds)


def checkout(folder: Path, services: int, settings: str) -> Path:
    generate(folder, services, settings=settings)
    (folder / "dodo.py").write_text("from flyte_build.dodo import *\n")
    return folder


def deploy(folder: Path, environ: Mapping[str, str]) -> str:
    """What `doit deploy` says."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder / ".home"), **environ}
    command = (str(SCRIPTS / "doit"), "deploy")
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"doit deploy failed\n{done.stdout}\n{done.stderr}")
    return done.stderr


def main() -> int:
    from bench.running import control_plane
    from tests.moto_server import ENVIRONMENT, moto_server, s3_client

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("services", type=int, nargs="*", default=[40, 100], help="sizes of the monorepo")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run; medians are shown")
    options = parser.parse_args()
    print("| services | cache | `doit deploy` |\n|---|---|---|", flush=True)
    for services in options.services:
        with tempfile.TemporaryDirectory() as name, control_plane() as endpoint, moto_server() as url:
            folder = Path(name).resolve()
            s3_client(url).create_bucket(Bucket="bucket")
            caches = {
                "folder": f'url = "file://{folder}/cache"',
                "S3": f'url = "s3://bucket/cache"\nendpoint_url = "{url}"\nregion = "us-east-1"',
            }
            for kind, cache in caches.items():
                taken = measure(folder / kind, services, endpoint, cache, repeat=options.repeat, environ=ENVIRONMENT)
                print(f"| {services} | {kind} | {taken:.2f} s |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
