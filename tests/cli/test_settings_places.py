"""Messages that say what to write name the place where it counts: a table, that of a profile, or the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from connectrpc.code import Code

from tests.recording import RecordingServer
from tests.repository import Ran, Repository, environment, failures, small

MANIFEST = """
    [targets.services]
    for_each = "services/*"
    path = "{dir}/w.py"
    all = true
"""
OVERLAY = """
    [profiles.prod.targets.services]
"""


def services(folder: Path, *, keys: str = "", overlay: str = "", **files: str) -> Repository:
    """One service, `fraud`, whose table makes the target; `keys` are of the table, `overlay` of `profile=prod`."""
    manifest = f"{MANIFEST}    {keys}\n{OVERLAY}    {overlay}\n"
    repository = Repository(folder, {"deploy.toml": manifest, "services/fraud/w.py": environment("fraud")})
    for name, text in files.items():
        repository.write(f"services/fraud/{name.replace('_py', '.py')}", text)
    return repository


def head(ran: Ran) -> str:
    """The first line of the only failure."""
    (message,) = failures(ran).values()
    return message.splitlines()[0]


@pytest.mark.parametrize(
    ("keys", "workflow", "expected"),
    [
        (
            "",
            "import helpers\n",
            "services/fraud/w.py:1: loading failed: ModuleNotFoundError: No module named 'helpers'; "
            'set `root_dir = "{dir}"` in [targets.services], the folder that `helpers` is in',
        ),
        (
            "",
            "import nowhere\n",
            "services/fraud/w.py:1: loading failed: ModuleNotFoundError: No module named 'nowhere'; "
            "install what provides `nowhere`, or set `root_dir` in [targets.services] to the folder that it is in",
        ),
        (
            "",
            "x = 1\n",
            "services/fraud/w.py: declares no flyte.TaskEnvironment; declare one, "
            "or point `path` in [targets.services] at the file that does",
        ),
        (
            "load_timeout = 0.5",
            "import time\ntime.sleep(60)\n",
            "services/fraud/w.py:2: loading did not end within 0.5 s; move the work into a task, "
            "or raise `load_timeout` in [targets.services]",
        ),
        (
            "hermetic = true",
            "import subprocess\nsubprocess.run(['true'])\n",
            "services/fraud/w.py:2 started `true` while loading, which `hermetic = true` in "
            "[targets.services] forbids; move it into a task, or keep its result in a file and read that",
        ),
        (
            "include = ['{dir}/*.sql']",
            environment("fraud"),
            "[targets.services] include, for `services/fraud`: `services/fraud/*.sql` matches no file; correct it, "
            "or take it out",
        ),
        (
            "version = '{env:BUILD}'",
            environment("fraud"),
            "[targets.services] version, for `services/fraud`: the environment variable `BUILD` is not set; set it, "
            "or use `{content}`",
        ),
        (
            "max_bundle_size = 10",
            environment("fraud"),
            "[targets.services], for `services/fraud`: bundle of 0.0 MB is above the 0.0 MB allowed; leave files out "
            "with `exclude` or .flyteignore, or raise `max_bundle_size`; its largest files:",
        ),
    ],
    ids=["root", "missing", "none", "timeout", "hermetic", "include", "version", "size"],
)
def test_a_failure_of_a_target_of_a_for_each_names_its_table(
    keys: str, workflow: str, expected: str, tmp_path: Path
) -> None:
    repository = services(tmp_path, keys=keys, helpers_py="")
    repository.write("services/fraud/w.py", workflow)
    assert head(repository.doit()) == expected


def test_the_variable_of_an_environment_that_a_for_each_does_not_find_is_told_of_its_table(tmp_path: Path) -> None:
    repository = services(tmp_path)
    repository.write("deploy.toml", MANIFEST.replace("all = true", 'environment = "envv"'))
    assert head(repository.doit()) == (
        "[targets.services] environment, for `services/fraud`: services/fraud/w.py has no environment `envv`; "
        "did you mean `env`?"
    )


def test_notes_about_a_target_of_a_for_each_say_what_holds_for_every_folder(tmp_path: Path) -> None:
    repository = services(tmp_path, keys='include = ["{dir}/keys"]')
    repository.environ = {"STAGE": "dev"}
    repository.write("services/fraud/rates.csv", "a\n")
    repository.write("services/fraud/keys/.env", "a\n")
    repository.write("services/fraud/keys/list.txt", "a\n")
    read = "from pathlib import Path\nPath(__file__).with_name('rates.csv').read_text()\n"
    repository.write("services/fraud/w.py", f"{read}import os\nos.environ.get('STAGE')\n{environment('fraud')}")
    ran = repository.doit()
    assert [line for line in ran.err.splitlines() if line.startswith("note")] == [
        "note      services/fraud: services/fraud/w.py:4: reads the environment variable `STAGE`, which is set here "
        "but not passed to the code; add it to `pass_env` in [targets.services]",
        "note      services/fraud: services/fraud/rates.csv: is read while the code loads, but is not in the bundle; "
        'add `include = ["{dir}/rates.csv"]` to [targets.services]',
        "note      services/fraud: left out of the bundle, since they look like keys or credentials: "
        "services/fraud/keys/.env; name one in `include` of [targets.services] to bundle it",
    ]


def test_a_key_that_the_profile_has_is_mended_in_the_profile(tmp_path: Path) -> None:
    repository = services(tmp_path, keys="load_timeout = 100", overlay="load_timeout = 0.5\n    pass_env = ['X']")
    repository.environ = {"STAGE": "dev"}
    repository.write("services/fraud/w.py", "import time\ntime.sleep(60)\n")
    assert head(repository.doit("profile=prod")) == (
        "services/fraud/w.py:2: loading did not end within 0.5 s; move the work into a task, "
        "or raise `load_timeout` in [profiles.prod.targets.services]"
    )
    repository.write("services/fraud/w.py", "import os\nos.environ.get('STAGE')\n" + environment("fraud"))
    note = (
        "reads the environment variable `STAGE`, which is set here but not passed to the code; add it to `pass_env` in"
    )
    assert f"{note} [profiles.prod.targets.services]\n" in repository.doit("profile=prod").err
    assert f"{note} [targets.services]\n" in repository.doit().err


def test_a_target_that_only_a_profile_has_is_mended_there(tmp_path: Path) -> None:
    repository = services(tmp_path)
    only = '[profiles.prod.targets."a/b"]\npath = "b.py"\nall = true\n'
    repository.write("deploy.toml", f"{MANIFEST}\n{only}")
    repository.write("b.py", "x = 1\n")
    assert head(repository.doit("profile=prod")) == (
        "b.py: declares no flyte.TaskEnvironment; declare one, "
        'or point `path` in [profiles.prod.targets."a/b"] at the file that does'
    )


def test_a_version_of_the_command_line_is_mended_there(tmp_path: Path) -> None:
    repository = services(tmp_path, keys='version = "{content}"')
    assert head(repository.doit("version={env:BUILD}")) == (
        "command line: version, for `services/fraud`: the environment variable `BUILD` is not set; set it, "
        "or use `{content}`"
    )


SETTINGS = """
    [targets.fraud]
    path = "fraud.py"
    environment = "env"

    [store]
    region = "us-east-1"

    [profiles.prod.{table}]
    {keys}
"""


@pytest.mark.parametrize(
    ("table", "keys", "words", "expected"),
    [
        (
            "store",
            'url = "s3://bucket/a"\nendpoint_url = "nowhere"',
            (),
            "[profiles.prod.store] endpoint_url: `nowhere` is no address of a server; write `https://host:port`",
        ),
        (
            "flyte",
            'endpoint = "dns:///127.0.0.1:9"\ninsecure = true',
            ("deploy",),
            "check `endpoint` and `insecure` in [profiles.prod.flyte], and the network",
        ),
        (
            "flyte",
            'endpoint = "dns:///127.0.0.1:9"',
            ("deploy",),
            "check `endpoint` and `insecure` in [profiles.prod.flyte] and [flyte], and the network",
        ),
        (
            "cache",
            'url = "./cache"\nread_only = true',
            ("cache", "prune=1d"),
            "deploy.toml: [profiles.prod.cache] is read_only, so nothing is pruned; run this where it is not",
        ),
    ],
    ids=["store", "backend", "both", "cache"],
)
def test_a_failure_over_a_setting_of_a_profile_names_the_table_of_the_profile(
    table: str, keys: str, words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    repository = small(tmp_path)
    repository.write("deploy.toml", SETTINGS.format(table=table, keys=keys))
    assert head(repository.doit(*words, "profile=prod")).endswith(expected)


def test_an_image_that_fails_over_a_setting_of_a_profile_names_its_table(tmp_path: Path) -> None:
    image = ', image=flyte.Image.from_debian_base(name="own").with_pip_packages("httpx")'
    repository = small(tmp_path, fraud_py=environment("fraud", image))
    keys = 'registry = ""'
    repository.write("deploy.toml", SETTINGS.format(table="images", keys=keys))
    mend = 'set `registry` in {}, such as `registry = "localhost:5000"`, or name one in the code'
    assert head(repository.doit("profile=prod")).endswith(mend.format("[profiles.prod.images]"))
    assert head(repository.doit()).endswith(mend.format("[images]"))


def test_the_reason_that_a_setting_of_a_profile_changed_names_its_table(tmp_path: Path) -> None:
    repository = small(tmp_path)
    repository.write("deploy.toml", SETTINGS.format(table="store", keys='url = "./one/"'))
    assert repository.doit("profile=prod").code == 0
    repository.write("deploy.toml", SETTINGS.format(table="store", keys='url = "./two/"'))
    assert "`url` in [profiles.prod.store] changed" in repository.doit("why", "upload:fraud", "profile=prod").out


def test_a_project_of_the_command_line_is_told_of_it(tmp_path: Path) -> None:
    repository = small(tmp_path)
    with RecordingServer(tmp_path / "server") as server:
        server.fail("DeployTask", Code.PERMISSION_DENIED)
        keys = f'endpoint = "{server.endpoint}"\ninsecure = true'
        repository.write("deploy.toml", SETTINGS.format(table="flyte", keys=keys))
        ran = repository.doit("profile=prod", "project=p")
    (message,) = failures(ran).values()
    assert message.endswith("or change `project` and `domain` in the command line and [flyte]")
