"""Edits of a checkout, for tables of what they make stale."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from tests.checkout import Checkout

Edit = Callable[[Checkout], object]


def each(*edits: Edit) -> Edit:
    """One after the other."""

    def edit(checkout: Checkout) -> None:
        for one in edits:
            one(checkout)

    return edit


def copy(old: str, new: str) -> Edit:
    return lambda checkout: shutil.copy(checkout.folder / old, checkout.folder / new)


def deleted(folder: str) -> Edit:
    """A folder of the state."""
    return lambda checkout: shutil.rmtree(checkout.state(folder))


def touch_everything(checkout: Checkout) -> None:
    for path in checkout.folder.rglob("*"):
        if ".flyte-build" not in path.parts:
            os.utime(path)


def rewrite(name: str, text: str) -> Edit:
    return lambda checkout: checkout.write(name, text)


def replace(name: str, old: str, new: str) -> Edit:
    return lambda checkout: checkout.replace(name, old, new)


def remove(name: str) -> Edit:
    return lambda checkout: (checkout.folder / name).unlink()


def rename(old: str, new: str) -> Edit:
    def edit(checkout: Checkout) -> None:
        (checkout.folder / new).parent.mkdir(exist_ok=True)
        (checkout.folder / old).rename(checkout.folder / new)

    return edit


def mode(name: str, bits: int) -> Edit:
    return lambda checkout: (checkout.folder / name).chmod(bits)


def variable(name: str, value: str) -> Edit:
    return lambda checkout: checkout.environ.update({name: value})


def setting(line: str) -> Edit:
    return lambda checkout: checkout.write("deploy.toml", checkout.read("deploy.toml") + line + "\n")


def table(text: str) -> Edit:
    return lambda checkout: checkout.write("deploy.toml", text + checkout.read("deploy.toml"))


def same_size_and_old_time(name: str, old: str, new: str) -> Edit:
    assert len(old) == len(new)

    def edit(checkout: Checkout) -> None:
        path = checkout.folder / name
        before = path.stat()
        checkout.replace(name, old, new)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return edit


def linked(name: str, to: str) -> Edit:
    def edit(checkout: Checkout) -> None:
        checkout.write(to, checkout.read(name) + "\n")
        (checkout.folder / name).unlink()
        (checkout.folder / name).symlink_to(os.path.relpath(to, os.path.dirname(name)))

    return edit


def damaged(folder: str) -> Edit:
    """The last byte of each file in a folder of the state, changed."""

    def edit(checkout: Checkout) -> None:
        for path in checkout.state(folder).iterdir():
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return edit
