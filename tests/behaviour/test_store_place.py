"""A store's URL leads elsewhere when what its client reads changes: then, and only then, bundles are sent again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flyte_build.model import StoreSettings
from flyte_build.store.place import redirections
from tests.moto_server import ENVIRONMENT, moto_server, s3_client
from tests.repository import MANIFEST, Repository, small

URL = "s3://bundles/prefix"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    with moto_server() as one, moto_server() as other:
        for url in (one, other):
            s3_client(url).create_bucket(Bucket="bundles")
        yield one, other


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = small(tmp_path, deploy_toml="")
    made.write("deploy.toml", f'[store]\nurl = "{URL}"\n' + MANIFEST.replace("\n    ", "\n"))
    made.environ |= ENVIRONMENT
    del made.environ["AWS_CONFIG_FILE"], made.environ["AWS_SHARED_CREDENTIALS_FILE"]
    return made


def deploys(repository: Repository) -> dict[str, str]:
    """Step -> reason, for those that ran."""
    ran = repository.doit("deploy", "output=jsonl")
    assert ran.code == 0, ran.err + ran.out
    return {e["step"]: e["reason"] for e in ran.events if e["event"] == "finished" and e["status"] == "done"}


def names(server: str) -> list[str]:
    return [found["Key"] for found in s3_client(server).list_objects_v2(Bucket="bundles").get("Contents", ())]


def empty(server: str) -> None:
    for name in names(server):
        s3_client(server).delete_object(Bucket="bundles", Key=name)


def aws_config(repository: Repository, text: str, file: str = "config") -> None:
    repository.write(f".home/.aws/{file}", text)


CONFIGURED = {
    "variable": ("", "{}", "", {"AWS_ENDPOINT_URL": "{}"}),
    "variable of the service": ("", "", "", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": "{}"}),
    "default profile": ("[default]\nendpoint_url = {}\n", "", "", {}),
    "credentials": ("", "[default]\nendpoint_url = {}\n", "", {}),
    "services": ("[default]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = {}\n", "", "", {}),
    "named profile": ("[profile prod]\nendpoint_url = {}\n[default]\nregion = eu-west-1\n", "", "prod", {}),
}


@pytest.mark.parametrize("way", CONFIGURED)
def test_a_bundle_is_sent_to_where_the_url_leads_now(
    way: str, repository: Repository, servers: tuple[str, str]
) -> None:
    config, credentials, profile, variables = CONFIGURED[way]

    def point_at(server: str) -> None:
        aws_config(repository, config.format(server))
        aws_config(repository, credentials.format(server) if "[" in credentials else "", "credentials")
        repository.environ |= {name: value.format(server) for name, value in variables.items()}
        repository.environ |= {"AWS_PROFILE": profile} if profile else {}

    one, other = servers
    for server in servers:
        empty(server)
    point_at(one)
    assert deploys(repository).keys() >= {"upload", "deploy"}
    assert deploys(repository) == {}
    assert (len(names(one)), names(other)) == (1, [])
    point_at(other)
    assert deploys(repository) == {"upload": "`endpoint_url` of place changed"}
    assert names(other) == names(one)
    assert deploys(repository) == {}


def test_who_sends_and_what_is_not_read_change_nothing(repository: Repository, servers: tuple[str, str]) -> None:
    repository.environ["AWS_ENDPOINT_URL"] = servers[0]
    deploys(repository)
    aws_config(repository, "[default]\noutput = json\nregion = eu-west-1\n[profile other]\nendpoint_url = http://x\n")
    aws_config(repository, "[default]\naws_access_key_id = another\naws_secret_access_key = another\n", "credentials")
    repository.environ |= {"AWS_ACCESS_KEY_ID": "another", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"}
    repository.environ |= {"AZURE_STORAGE_ACCOUNT_NAME": "another", "GOOGLE_BASE_URL": "http://127.0.0.1:9"}
    assert deploys(repository) == {}


def test_an_endpoint_of_the_manifest_counts_more_than_the_environment(
    repository: Repository, servers: tuple[str, str]
) -> None:
    repository.write(
        "deploy.toml", repository.read("deploy.toml").replace(URL, f'{URL}"\nendpoint_url = "{servers[0]}')
    )
    deploys(repository)
    repository.environ["AWS_ENDPOINT_URL"] = servers[1]
    assert deploys(repository) == {}


# --- the same as the clients find

CONFIG = """
[default]
region = default-region
endpoint_url = http://default
[profile "with space"]
services = both
ignore_configured_endpoint_urls = {ignore}
endpoint_url = http://profile
[profile plain]
region = plain-region
[services both]
dynamodb =
    endpoint_url = http://dynamodb
s3 =
    endpoint_url = http://services
[it"s]
"""


def environments() -> Iterator[dict[str, str]]:
    for profile in ({}, {"AWS_PROFILE": "with space"}, {"AWS_PROFILE": "default", "AWS_DEFAULT_PROFILE": "plain"}):
        for ignored in ({}, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"}):
            for endpoint in ({}, {"AWS_ENDPOINT_URL": "http://variable", "AWS_ENDPOINT_URL_S3": ""}):
                for region in ({}, {"AWS_DEFAULT_REGION": "variable-region"}):
                    yield {**profile, **ignored, **endpoint, **region}


def as_botocore_finds(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    import boto3.session

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**ENVIRONMENT, **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    if "AWS_DEFAULT_REGION" in environ:
        monkeypatch.setenv("AWS_DEFAULT_REGION", environ["AWS_DEFAULT_REGION"])
    client = boto3.session.Session().client("s3")
    endpoint = client.meta.endpoint_url
    return {"region": client.meta.region_name} if "amazonaws" in endpoint else {"endpoint_url": endpoint}


@pytest.mark.parametrize("ignore", ["true", "false"])
def test_the_place_is_what_the_client_itself_finds(
    ignore: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    file.write_text(CONFIG.format(ignore=ignore))
    for environ in environments():
        environ["AWS_CONFIG_FILE"] = str(file)
        found = redirections(StoreSettings(url="s3://bucket"), environ)
        client = as_botocore_finds(environ, monkeypatch)
        # the client calls the region of no region at all, and only then, by the name of the first
        assert found == client or (found, client) == ({}, {"region": "us-east-1"}), environ


def test_a_configuration_that_cannot_be_read_is_left_to_the_client_to_tell(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("[default]\n[default]\n")
    environ = {"AWS_CONFIG_FILE": str(file)}
    assert redirections(StoreSettings(url="s3://bucket"), environ) == {"profile": "cannot be read"}
    account = {"GOOGLE_SERVICE_ACCOUNT": str(tmp_path / "missing")}
    assert redirections(StoreSettings(url="gs://bucket"), account) == {"service account": "cannot be read"}


@pytest.mark.parametrize(
    ("url", "environ", "found"),
    [
        ("gs://b", {"GOOGLE_BASE_URL": "https://x"}, {"google_base_url": "https://x"}),
        ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"gcs_base_url": "https://x"}'}, {"gcs_base_url": "https://x"}),
        ("gs://b", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "secret"}'}, {}),
        ("gs://b", {"google_base_url": "not read"}, {}),
        ("abfs://c/p", {"AZURE_STORAGE_ENDPOINT": "https://x"}, {"azure_storage_endpoint": "https://x"}),
        ("abfs://c/p", {"AZURE_Endpoint": "https://x"}, {"azure_endpoint": "https://x"}),
        ("abfs://c/p", {"AZURE_STORAGE_ACCOUNT_NAME": "a"}, {"azure_storage_account_name": "a"}),
        ("abfs://c/p", {"AZURE_STORAGE_ACCOUNT_KEY": "who"}, {}),
        ("file:///folder", {"AWS_ENDPOINT_URL": "https://x", "AZURE_ENDPOINT": "https://x"}, {}),
        ("backend", {"AWS_ENDPOINT_URL": "https://x"}, {}),
    ],
)
def test_each_client_is_led_by_variables_of_its_own(url: str, environ: dict[str, str], found: dict[str, str]) -> None:
    assert redirections(StoreSettings(url=url), environ) == found


def test_the_file_of_an_account_may_say_where_google_is(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text('{"gcs_base_url": "https://x", "private_key": "secret"}')
    for name in ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "SERVICE_ACCOUNT"):
        environ = {name: str(file)}
        assert redirections(StoreSettings(url="gs://bucket"), environ) == {"gcs_base_url": "https://x"}
        assert redirections(StoreSettings(url="gs://bucket", endpoint_url="https://y"), environ) == {}
