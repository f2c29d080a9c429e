"""What a user at a terminal sees: colours, one line that is written over, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.processes import ends
from tests.repository import MANIFEST, SCRIPTS, Repository, environment, small

ESCAPE = "\x1b"
HANGS = """\
import os
import pathlib
import subprocess
import time

child = subprocess.Popen(["sleep", "1000"])
pids = (os.getpid(), os.getppid(), child.pid)
part = pathlib.Path(__file__).with_suffix(".part")
part.write_text(" ".join(map(str, pids)))
part.rename(part.with_suffix(".pids"))
time.sleep(1000)
"""
"""Notes the loading process, its parent, and a child, then never ends."""


def command(repository: Repository, *words: str, **environ: str) -> tuple[list[str], dict[str, str]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLYTE", "NO_COLOR"))}
    return [str(SCRIPTS / "doit"), *words], {**inherited, "HOME": str(repository.folder), "TERM": "xterm", **environ}


def on_terminal(repository: Repository, *words: str, **environ: str) -> tuple[int, str]:
    """The exit code and all that appears when standard output and error are a terminal."""
    line, environment = command(repository, *words, **environ)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        line, cwd=repository.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # how a terminal says that nobody writes to it any more
            data = b""
        if not data:
            os.close(ours)
            return process.wait(timeout=60), shown.decode()
        shown += data


def left_on_screen(shown: str) -> list[str]:
    """The lines, each as it was last written over."""
    plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", shown.replace("\r\n", "\n"))
    return [line.split("\r")[-1] for line in plain.rstrip("\n").split("\n")]


def test_on_a_terminal_lines_are_coloured_and_progress_is_written_over(repository: Repository) -> None:
    code, shown = on_terminal(repository)
    assert code == 0
    assert f"\r{ESCAPE}[2K{ESCAPE}[2mdiscover  fraud  (not done here yet){ESCAPE}[0m" in shown
    assert f"{ESCAPE}[36mdeployed  {ESCAPE}[0mfraud  version " in shown
    screen = left_on_screen(shown)
    assert [line.split()[0] for line in screen] == ["deployed", "1"]
    again = on_terminal(repository)[1]
    assert f"{ESCAPE}[32mfresh     {ESCAPE}[0mfraud" in again
    repository.write("fraud.py", "1 / 0\n")
    code, shown = on_terminal(repository)
    assert code == 1
    assert f"{ESCAPE}[31mFAILED{ESCAPE}[0m discover:fraud" in shown


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour_a_terminal_gets_plain_lines(environ: Mapping[str, str], repository: Repository) -> None:
    repository.write("fraud.py", "1 / 0\n")
    code, shown = on_terminal(repository, **environ)
    assert code == 1
    assert ESCAPE not in shown
    assert shown.splitlines()[:2] == ["discover  fraud  (not done here yet)", "failed    fraud  at discover"]


def test_a_pipe_gets_plain_lines(repository: Repository) -> None:
    ran = repository.doit("discover")
    assert ran.code == 0
    assert ESCAPE not in ran.err
    assert "\r" not in ran.err


# --- Ctrl-C


def hanging(folder: Path) -> Repository:
    """Two targets: one that deploys, and one whose code never ends loading."""
    repository = small(folder, churn_py=HANGS)
    repository.write("deploy.toml", MANIFEST + '\n    [targets.churn]\n    path = "churn.py"\n    all = true\n')
    return repository


def start(repository: Repository, *words: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a run, and wait until the code hangs. Gives the processes that have to end with it."""
    line, environment = command(repository, *words)
    process = subprocess.Popen(
        line,
        cwd=repository.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = repository.folder / "churn.pids"
    deadline = time.monotonic() + 60
    while not pids.exists():
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process, [int(pid) for pid in pids.read_text().split()]


@pytest.mark.parametrize(
    "words", [(), ("-n", "0"), ("-n", "2", "-P", "process")], ids=["threads", "one-after-another", "processes"]
)
def test_ctrl_c_ends_everything_with_a_line_and_leaves_what_was_finished(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    repository = hanging(tmp_path)
    assert repository.doit("deploy:fraud").code == 0
    process, pids = start(repository, *words)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert err.splitlines()[-1] == "interrupted; what had finished stays done"
    assert re.search(r"^2 targets: (1 fresh, 1|2) unfinished  ", err, re.MULTILINE)
    assert "Traceback" not in err
    assert all(map(ends, pids))
    assert not (tmp_path / ".flyte-build/targets/churn").exists()
    repository.write("churn.py", environment("churn"))
    again = repository.doit()
    assert again.code == 0
    assert "2 targets: 1 done, 1 fresh  " in again.err


def test_ctrl_c_ends_with_a_line_also_when_the_sdk_is_imported(tmp_path: Path) -> None:
    repository = hanging(tmp_path)
    repository.write(
        "dodo.py", "from flyte_build.dodo import *\nimport flyte\n"
    )  # which puts a hook of its own in place
    process, pids = start(repository, "deploy:churn")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert err.splitlines()[-1] == "interrupted; what had finished stays done"
    assert "Traceback" not in err
    assert all(map(ends, pids))


def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    process, pids = start(hanging(tmp_path))
    process.kill()
    process.communicate(timeout=30)
    assert all(map(ends, pids))


# --- the served control plane


def served(repository: Repository) -> tuple[subprocess.Popen[str], str]:
    """`doit serve` on a free port, and its endpoint."""
    line, environment = command(repository, "serve", "port=0")
    process = subprocess.Popen(
        line, cwd=repository.folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    found = re.fullmatch(
        r"serving at (dns:///localhost:\d+); in another terminal: flyte --endpoint \1 --insecure get task "
        r"--project flytesnacks --domain development\n",
        told,
    )
    assert found, told
    return process, found[1]


def test_serve_answers_until_ctrl_c(tmp_path: Path) -> None:
    process, endpoint = served(small(tmp_path / "server"))
    client = small(tmp_path / "client")
    client.write("deploy.toml", f'[flyte]\nendpoint = "{endpoint}"\ninsecure = true\n' + client.read("deploy.toml"))
    deployed = client.doit()
    assert (deployed.code, "registered 1 task" in deployed.err) == (0, True)

    port = endpoint.rpartition(":")[2]
    taken = small(tmp_path / "other").doit("serve", f"port={port}")
    assert (taken.code, taken.err) == (
        1,
        f"\nFAILED serve\n127.0.0.1:{port}: the port is in use; stop the program that listens there, "
        "or choose another port: `doit serve port=NUMBER`\n",
    )

    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0
    gone = client.doit("forget", "--all"), client.doit()
    assert gone[1].code == 1
    assert f"{endpoint}: no answer from a Flyte control plane: " in gone[1].err
