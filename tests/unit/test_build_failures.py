"""What a failed build's output means: whose disk is full."""

from __future__ import annotations

import pytest

from flyte_build.builders.failures import failed_work, failure
from flyte_build.errors import BuildFailed, EngineDiskFull
from flyte_build.images.naming import NamedBuild

BUILD = NamedBuild(
    repository="r.example.com/app",
    tag="1",
    dockerfile="FROM scratch\n",
    context="",
    platforms=("linux/amd64",),
    secrets=(),
    build_args={},
)


def exited(said: str) -> str:
    """What buildx says when the command of a step fails that said so."""
    return f"""\
#6 [2/2] RUN make
#6 0.120 {said}
#6 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 1
------
 > [2/2] RUN make:
0.120 {said}
------
Dockerfile:2
--------------------
   2 | >>> RUN make
--------------------
ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 1"""


ENGINE_S = {
    "a-copy": """\
#6 [2/2] COPY big /
#6 ERROR: failed to copy files: copy file range failed: no space left on device
------
 > [2/2] COPY big /:
------
ERROR: failed to solve: failed to copy files: copy file range failed: no space left on device""",
    "an-export": """\
#6 exporting to image
#6 ERROR: write /var/lib/docker/tmp/x: no space left on device
------
 > exporting to image:
------
ERROR: failed to solve: write /var/lib/docker/tmp/x: no space left on device""",
    "no-work-named": "error creating temporary file: write /var/lib/docker/tmp/x: no space left on device",
}


@pytest.mark.parametrize("output", ENGINE_S.values(), ids=ENGINE_S)
def test_what_buildkit_itself_has_no_space_for_is_the_engine_s_disk(output: str) -> None:
    error = failure(BUILD, output, doing="build", log="LOG")
    assert isinstance(error, EngineDiskFull)
    assert error.message == (
        "building `r.example.com/app:1`: the disk of the Docker engine is full; free some with `docker system prune` "
        "or `docker builder prune`"
    )


def test_what_a_step_s_command_has_no_space_for_may_be_its_own() -> None:
    error = failure(BUILD, exited("cp: /scratch/x: No space left on device"), doing="build", log="LOG")
    assert isinstance(error, EngineDiskFull)
    assert error.step == "[2/2] RUN make"


def test_a_step_that_fails_for_another_reason_is_told_as_that() -> None:
    output = "#5 0.1 no space left on device, said an earlier step\n" + exited("no rule")
    assert isinstance(failure(BUILD, output, doing="build", log="LOG"), BuildFailed)


def test_output_that_names_no_work_has_none() -> None:
    assert failed_work("error: no builder") == ("", "")
