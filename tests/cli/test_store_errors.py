"""What a user reads when the store refuses, through the command."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from tests.http_faults import Reply, faulty_server
from tests.moto_server import ENVIRONMENT, moto_server
from tests.repository import MANIFEST, Repository, failures, small


def refused(folder: Path, store: str, environ: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Exit code, messages, and the name of the archive that was to be sent."""
    repository: Repository = small(folder)
    repository.write("deploy.toml", f"[store]\n{store}\n{dedent(MANIFEST)}")
    repository.write("taken", "a file")
    repository.environ |= environ
    ran = repository.doit()
    (archive,) = (folder / ".flyte-build/bundles").glob("*.tar.gz")
    return ran.code, failures(ran), archive.name


def test_a_store_that_is_a_file_is_told(tmp_path: Path) -> None:
    code, told, _ = refused(tmp_path, 'url = "./taken"', {})
    place = f"{tmp_path}/taken: the store's folder is, or is inside, a file"
    assert (code, told) == (1, {"upload:fraud": f"{place}; move it, or correct `url` of [store]"})


def test_a_store_without_credentials_says_what_to_set(tmp_path: Path) -> None:
    store = 'url = "s3://bucket/code"\nregion = "us-east-1"'
    code, told, archive = refused(tmp_path, store, {"AWS_EC2_METADATA_DISABLED": "true"})
    problem = "no credentials for the store: Unable to locate credentials"
    mend = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert (code, told) == (1, {"upload:fraud": f"s3://bucket/code/{archive}: {problem}; {mend}"})


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with moto_server() as url:
        store = f'url = "s3://nosuch/code"\nendpoint_url = "{url}"\nregion = "us-east-1"'
        code, told, archive = refused(tmp_path, store, dict(ENVIRONMENT))
    problem = "there is no bucket `nosuch`; create it, or correct `url` of [store]"
    assert (code, told) == (1, {"upload:fraud": f"s3://nosuch/code/{archive}: {problem}"})


def test_a_refusal_names_bucket_and_key_and_no_secret(tmp_path: Path) -> None:
    with faulty_server(lambda _: Reply(403, b"<Error><Code>AccessDenied</Code></Error>")) as server:
        store = f'url = "s3://bucket/code"\nendpoint_url = "{server.url}"\nregion = "us-east-1"'
        code, told, archive = refused(tmp_path, store, dict(ENVIRONMENT))
    message = told["upload:fraud"]
    assert code == 1
    assert message.startswith(f"s3://bucket/code/{archive}: ")
    assert not [secret for secret in ENVIRONMENT.values() if len(secret) > 8 and secret in message]
    assert "Signature" not in message
