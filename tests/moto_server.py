"""A real moto server in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"  # from Amazon's documentation
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "*",
}
"""Lets a client of S3 depend on nothing that this machine happens to have."""


@contextmanager
def moto_server() -> Iterator[str]:
    """The server's URL."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **ENVIRONMENT}
    )
    try:
        yield _announced(process)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _announced(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
            # It logs every request: a pipe that nobody empties would stop it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[1]
    raise AssertionError(f"moto did not start: {said}")


@lru_cache
def s3_client(url: str) -> Any:
    """A plain client, to look at what is stored."""
    import boto3
    from botocore.config import Config

    return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
        "s3", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
    )
