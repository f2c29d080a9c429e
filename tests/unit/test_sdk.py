"""The SDK's private parts that this project relies on are there, in whichever supported version is installed."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

import flyte
import pytest
from flyte.syncify import syncify

from flyte_build import binding, sdk, sdk_client, sdk_remote


def find(name: str) -> Any:
    """The object behind a dotted name, importing as many of its parts as are modules."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return reduce(getattr, parts[count:], module)
    raise ImportError(name)


def objects() -> dict[str, Any]:
    return {
        "flyte._image.Image": flyte.Image.from_debian_base(),
        "flyte._environment.Environment": flyte.TaskEnvironment(name="for-its-attributes"),
        "flyte.syncify._api.Syncify": find("flyte.syncify.syncify"),
        "flyte.syncify._api._BackgroundLoop": find("flyte.syncify.syncify")._bg_loop,
    }


@pytest.mark.parametrize("name", sorted({*sdk.PRIVATE_NAMES, *sdk_client.PRIVATE_NAMES, *sdk_remote.PRIVATE_NAMES}))
def test_the_sdk_has_the_private_name(name: str) -> None:
    assert callable(find(name)) or isinstance(find(name), str)


@pytest.mark.parametrize(
    ("owner", "attribute"), [(owner, name) for owner, names in sdk.PRIVATE_ATTRIBUTES.items() for name in names]
)
def test_the_sdk_s_objects_have_the_private_attribute(owner: str, attribute: str) -> None:
    found = objects()[owner]
    assert isinstance(found, find(owner))
    assert hasattr(found, attribute)


def test_a_private_name_that_is_gone_is_noticed() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        find("flyte._deploy.no_such_function")


def test_local_import_paths_are_given_as_the_sdk_gives_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from flyte._utils import local_sys_paths_env

    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "services" / "x"), "/elsewhere"])
    value = sdk.sys_path_value(tmp_path, sys.path)
    assert {"_F_SYS_PATH": value} == local_sys_paths_env(tmp_path)
    assert value == "./.:./services/x"


def test_a_virtual_environment_under_the_root_is_not_given_to_tasks(tmp_path: Path) -> None:
    entries = [str(tmp_path), str(tmp_path / ".venv" / "lib" / "python3.11" / "site-packages")]
    assert sdk.sys_path_value(tmp_path, entries) == "./."


def test_the_image_cache_argument_is_the_sdk_s_own() -> None:
    images = {"b": "ghcr.io/org/b:1", "a": 'registry/"odd"/é:2'}
    from flyte._internal.image_cache import ImageCache

    assert binding.image_cache_argument(images) == ImageCache(image_lookup=images).to_transport


def test_threads_of_a_forked_process_share_one_background_thread_of_the_sdk() -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        before = threading.active_count()
        sdk.revive_after_fork()
        background, start = syncify._bg_loop, syncify._bg_loop.thread.start

        def start_slowly() -> None:
            time.sleep(0.1)
            start()

        vars(background.thread)["start"] = start_slowly
        with ThreadPoolExecutor(8) as pool:
            loops = set(pool.map(lambda _: background.loop, range(8)))  # a thread that is started twice raises
        is_one = len(loops) == 1 and threading.active_count() == before + 1
        os._exit(0 if is_one and background.thread.is_alive() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_process_can_use_the_sdk_s_synchronous_calls(tmp_path: Any) -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        sdk.revive_after_fork()
        flyte.init(root_dir=tmp_path)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
