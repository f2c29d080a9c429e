"""Single lines and texts: what is said at once, and what plans, checks, causes and the cache are told as."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

import msgspec

_DIGEST = re.compile(r"^([0-9a-f]{12})[0-9a-f]{20}(?=:|$)")


def say(line: str) -> None:
    """One line of talk."""
    sys.stderr.write(f"{line}\n")


def tell(line: str) -> None:
    """One line of data."""
    write(sys.stdout, f"{line}\n")


def write(out: TextIO, text: str) -> None:
    """Write at once. A reader that has gone, such as `head`, is told nothing more, and the work goes on."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def say_at_once(line: str) -> None:
    """One line of talk, past what doit keeps back until an action has ended."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{line}\n")
        sys.__stderr__.flush()


def waiting_text(holder: str) -> str:
    return f"waiting for {holder}; `wait=false` fails at once instead"


def plan_text(plan: Mapping[str, Any], output: str) -> str:
    """What a deploy would do to one target."""
    if output == "jsonl":
        return msgspec.json.encode({"event": "plan", **plan}, order="sorted").decode()
    return _plan_text(plan)


class InOrder:
    """Data that is told in the order of the selection, whichever is there first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._awaited = list(names)
        self._there: dict[str, str] = {}

    def put(self, name: str, text: str) -> None:
        """`text` is empty when there will be none."""
        self._there[name] = text
        while self._awaited and self._awaited[0] in self._there:
            self._tell(self._awaited.pop(0))

    def end(self) -> None:
        """Tell what still waits for something before it, in a run that was interrupted."""
        for name in self._awaited:
            self._tell(name)

    def _tell(self, name: str) -> None:
        text = self._there.get(name)
        if text:
            tell(text)


def check_line(target: str, output: str) -> None:
    """A target that passed."""
    if output == "jsonl":
        tell(msgspec.json.encode({"event": "check", "status": "same", "target": target}, order="sorted").decode())
    else:
        tell(f"{target}: declares the same, loaded twice")


def clean_lines(cleaned: Mapping[str, Any], *, dryrun: bool) -> None:
    """What `doit clean` has removed: images by name, and how many files."""
    verb = "would remove" if dryrun else "removed"
    for uri in cleaned["images"]:
        tell(f"{verb} image {uri}")
    if cleaned["files"]:
        tell(f"{verb} {cleaned['files']} file{'s' if cleaned['files'] != 1 else ''}, {cleaned['size']:,} bytes")
    elif not cleaned["images"]:
        tell("nothing to remove")


def cause_lines(chain: Iterable[str], old: str, new: str) -> Iterator[str]:
    """What people are shown of a cause below its words: what leads there, and what was and is there."""
    links = tuple(chain)
    if len(links) > 1:
        yield " -> ".join(links)
    if old or new:
        yield f"was {_short(old)}, is {_short(new)}"


def _short(value: str) -> str:
    """A digest with fewer digits, and whether it is executable; what is no digest as it is."""
    return _DIGEST.sub(r"\1", value) or "nothing"


def _plan_text(plan: Mapping[str, Any]) -> str:
    if not plan["register"]:
        return f"{plan['target']}: fresh, version {plan['deployed_version']}"
    count = len(plan["register"])
    now = f" (now {plan['deployed_version']})" if plan["deployed_version"] else ""
    lines = [
        f"{plan['target']}: would register {count} task{'s' if count != 1 else ''} "
        f"as version {plan['version']}{now}: {plan['reason']}"
    ]
    cause = plan["cause"] or {"chain": (), "old": "", "new": ""}
    lines += [f"  because   {line}" for line in cause_lines(cause["chain"], cause["old"], cause["new"])]
    if plan["upload"]:
        files = plan["bundle_files"]
        lines.append(
            f"  upload    {plan['upload']}: {files} file{'s' if files != 1 else ''}, {plan['bundle_size']:,} bytes, "
            f"{plan['archive_size']:,} compressed"
        )
    for environment, uri in plan["images"].items():
        about = f": {plan['builds'][uri]}" if uri in plan["builds"] else ""
        lines.append(f"  image     {environment}: {uri}{about}")
    lines += [f"  register  {name}" for name in plan["register"]]
    return "\n".join(lines)


def cache_lines(usage: Mapping[str, Any], output: str) -> None:
    """What the shared cache holds, and what it gave to the last runs."""
    if output == "jsonl":
        tell(msgspec.json.encode({"event": "cache", **usage}, order="sorted").decode())
    else:
        tell(_cache_text(usage))


def _cache_text(usage: Mapping[str, Any]) -> str:
    lines = [f"{usage['url']}{', read only' if usage['read_only'] else ''}"]
    if usage["pruned"] is not None:
        lines.append(f"  removed   {_held(usage['pruned'])}")
    lines += [f"  {kind:<10}{_held(held)}" for kind, held in usage["holds"].items()]
    for run in usage["runs"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run["started"]))
        missed = run["looked_up"] - run["whole"] - run["part"]
        part = f" ({run['part']} of discovery only)" if run["part"] else ""
        counts = f"{_count(run['whole'] + run['part'], 'hit')}{part}, {_count(missed, 'miss', 'es')}"
        read = f"read {_count(run['received'], 'byte')}" if run["received"] else "read nothing"
        sent = f"sent {_count(run['written'], 'object')}, {_count(run['sent'], 'byte')}"
        traffic = f"{read}, {sent if run['written'] else 'sent nothing'}"
        lines.append(f"  {when}  {counts}; {traffic}{'; ' + run['trouble'] if run['trouble'] else ''}")
    return "\n".join(lines)


def _held(held: Mapping[str, int]) -> str:
    return f"{_count(held['objects'], 'object')}, {_count(held['size'], 'byte')}"


def _count(number: int, word: str, ending: str = "s") -> str:
    return f"{number:,} {word}{ending if number != 1 else ''}"
