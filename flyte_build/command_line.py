"""The words of the command line: what they mean, what is wrong with them, and the project that they name."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from doit import doit_cmd
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidCommand

from flyte_build import pipeline
from flyte_build.errors import (
    ManifestError,
    NotAStep,
    Place,
    StepBesidesPlan,
    UnknownTarget,
    VariableOfAnotherTask,
    WrongValue,
)
from flyte_build.manifest import Manifest, read_manifest
from flyte_build.project import MANIFEST, Project
from flyte_build.report import OWN_TASKS, progress_writer

DEFAULT_PORT = "8090"
PRUNE = re.compile(r"\d{1,6}[dh]")
TASKS = (*pipeline.STEPS, *OWN_TASKS)
"""Every task, or group of tasks, of ours."""
_OF_ONE_TASK = {"port": "serve", "prune": "cache"}
"""Variable of the command line -> the only task that it means something to."""
_COMMANDS = {command.get_name() for command in DoitMain.DOIT_CMDS} - {"run"}
"""Commands of doit that run no task."""


def variables() -> dict[str, str]:
    """The `name=value` words of the command line."""
    return dict(doit_cmd._CMDLINE_VARS or {})


def manifest_path() -> Path:
    return Path(variables().get("manifest", MANIFEST))


@cache
def project() -> Project:
    """The project that this run works on.

    Raises:
        InvalidCommand: the manifest or the command line is wrong; doit shows the message and ends with 3.
    """
    try:
        manifest: Manifest = read_manifest(manifest_path(), variables(), os.environ)
        check_words(sys.argv[1:], manifest.targets)
        check_variables(variables(), sys.argv[1:])
    except ManifestError as error:
        raise InvalidCommand(error.message) from error
    opened = Project(manifest, os.environ, variables())
    opened.show = progress_writer(variables().get("output", "text"))
    return opened


def check_words(words: Iterable[str], targets: Collection[str]) -> None:
    """Refuse a word `STEP:TARGET` that means no target: to doit, a pattern that matches nothing is nothing to do.

    Raises:
        UnknownTarget: there is such a word.
        StepBesidesPlan: a step is named beside `plan` or `check`, which do nothing, and would be done.
    """
    words = list(words)
    runs = not any(word in _COMMANDS for word in words[:1])
    looking = next((word for word in words if runs and word in ("plan", "check")), "")
    for word in words:
        step, colon, name = word.partition(":")
        found = fnmatch.filter(targets, name) if "*" in word else name in targets
        if colon and step in (*pipeline.STEPS, "plan", "check") and not found:
            raise UnknownTarget(word=word, known=tuple(targets))
        if looking and step in pipeline.STEPS:
            raise StepBesidesPlan(command=looking, word=word)


def check_variables(given: Mapping[str, str], words: Collection[str]) -> None:
    """Refuse command-line variables that are not the manifest's concern: values, and those of tasks that are not asked.

    Raises:
        ManifestError: there is one.
    """
    for name, task in _OF_ONE_TASK.items():
        if name in given and task not in words:
            raise VariableOfAnotherTask(name=name, value=given[name], task=task)
    port = given.get("port", DEFAULT_PORT)
    if not port.isdecimal() or int(port) > 65535:
        place = Place("command line", 0, "port")
        raise WrongValue(place=place, expected="a number from 0 to 65535", found=port, example=f"port={DEFAULT_PORT}")
    if "prune" in given and not PRUNE.fullmatch(given["prune"]):
        place = Place("command line", 0, "prune")
        raise WrongValue(place=place, expected="an age in days or hours", found=given["prune"], example="prune=30d")


def steps_of(word: str, targets: Collection[str]) -> list[tuple[str, str]]:
    """(step, target) for each that a word such as `deploy:services/*` means; of `deploy`, every target.

    Raises:
        NotAStep: it means another task.
        UnknownTarget: there is no such target.
    """
    step, colon, pattern = word.partition(":")
    if step not in pipeline.STEPS:
        raise NotAStep(word=word, steps=tuple(pipeline.STEPS), targets=tuple(targets))
    check_words([word], targets)
    return [(step, name) for name in targets if not colon or name == pattern or fnmatch.fnmatch(name, pattern)]
