"""Whatever way code looks at something while it loads, a change of that is seen."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import py_compile
import shutil
import sqlite3
import tarfile
import tempfile
import zipfile
from pathlib import Path
from textwrap import dedent

import pytest

from flyte_build.errors import FileRaised, ModuleImportedTwice, ModuleNameTaken
from flyte_build.state.receipts import Receipt
from flyte_build.state.trace import Trace
from tests.checkout import Checkout
from tests.repository import Repository

TASK = """

env = flyte.TaskEnvironment(name="small", env_vars={"SEEN": str(SEEN)})


@env.task
async def work() -> int:
    return 1
"""
SMALL_MANIFEST = """
[targets.small]
path = "small.py"
all = true
"""


def small(folder: Path, head: str, manifest: str = SMALL_MANIFEST) -> Checkout:
    """One file, which computes `SEEN` while it loads."""
    made = Checkout(folder)
    made.write("deploy.toml", manifest)
    made.write("small.py", f"{dedent(head).strip()}\nimport flyte\n{TASK}")
    made.deploy()
    return made


OPAQUE = {
    "process": ("import subprocess\nSEEN = subprocess.run(['true']).returncode", "small.py:2 started `true`"),
    "shell": ("import os\nSEEN = os.system('true')", "small.py:2 started `true`"),
    "spawn": (
        "import os\nSEEN = os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1]",
        "small.py:2 started `/bin/true`",
    ),
    "connection": (
        "import socket\nwith socket.socket() as s:\n    SEEN = s.connect_ex(('127.0.0.1', 9))",
        "small.py:3 made a network connection",
    ),
    "look-up": (
        "import socket\nSEEN = len(socket.getaddrinfo('localhost', 80)) > 0",
        "small.py:2 looked up host `localhost`",
    ),
    "fork": (
        "import os\nSEEN = os.fork()\nif not SEEN:\n    os._exit(0)\nos.waitpid(SEEN, 0)\nSEEN = 1",
        "small.py:2 started a process",
    ),
    "terminal": (
        "import os\nSEEN, _ = os.forkpty()\nif not SEEN:\n    os._exit(0)\nos.waitpid(SEEN, 0)\nSEEN = 1",
        "small.py:2 started a process",
    ),
    "in a thread": (
        "import subprocess, threading\nt = threading.Thread(target=subprocess.run, args=(['true'],))\n"
        "t.start()\nt.join()\nSEEN = 1",
        "small.py:3 started `true`",
    ),
    "in a pool of threads": (
        "import subprocess\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool:\n"
        "    SEEN = pool.submit(subprocess.call, ['true']).result()",
        "small.py:4 started `true`",
    ),
    "spawned worker": (
        "import multiprocessing\nif __name__ == 'small':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        SEEN = pool.map(abs, [1])",
        "small.py:3 started a process",
    ),
    "another interpreter": (
        "try:\n    import _interpreters as made\nexcept ImportError:  # before Python 3.13\n"
        "    import _xxsubinterpreters as made\nSEEN = made.create() and 1",
        "small.py:5 started an interpreter",
    ),
    "coroutine": (
        "import asyncio\nasync def go():\n    return await asyncio.create_subprocess_exec('true')\n"
        "SEEN = asyncio.run(go()) and 1",
        "small.py:3 started `true`",
    ),
    "datagram": (
        "import socket\nwith socket.socket(type=socket.SOCK_DGRAM) as s:\n    SEEN = s.sendto(b'x', ('127.0.0.1', 9))",
        "small.py:3 made a network connection",
    ),
    "old look-up": (
        "import socket\nSEEN = len(socket.gethostbyname('localhost')) > 0",
        "small.py:2 looked up host `localhost`",
    ),
    "URL": (
        "import urllib.request\ntry:\n    SEEN = urllib.request.urlopen('http://localhost:9').read()\n"
        "except OSError:\n    SEEN = 0",
        "small.py:3 looked up host `localhost`",
    ),
    "in a module of its own": (
        "from helper import SEEN",
        "helper.py:2 started `true`",
    ),
}


@pytest.mark.parametrize(("head", "what"), OPAQUE.values(), ids=list(OPAQUE))
def test_code_whose_inputs_cannot_be_seen_is_never_fresh(head: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import subprocess\nSEEN = subprocess.run(['true']).returncode\n")
    checkout = small(tmp_path, head)
    for _ in range(2):
        assert checkout.deploy()["discover"] == f"{what}, whose inputs cannot be seen"


ENVIRONMENT = {
    "get": "SEEN = os.environ.get('STAGE')",
    "getenv": "SEEN = os.getenv('STAGE', 'none')",
    "item": "try:\n    SEEN = os.environ['STAGE']\nexcept KeyError:\n    SEEN = 'none'",
    "in": "SEEN = 'STAGE' in os.environ",
    "bytes": "SEEN = os.environb.get(b'STAGE')",
    "copy": "SEEN = dict(os.environ).get('STAGE')",
    "loop": "SEEN = [value for name, value in os.environ.items() if name == 'STAGE']",
    "length": "SEEN = len([name for name in os.environ if name.startswith('STAGE')])",
    "expanded": "SEEN = os.path.expandvars('$STAGE')",
    "counted": "SEEN = len(os.environ)",
    "printed": "SEEN = repr(os.environ)",
    "keys": "SEEN = sorted(os.environ.keys())",
    "values": "SEEN = sorted(os.environ.values())",
    "copied": "SEEN = os.environ.copy().get('STAGE')",
    "merged": "SEEN = (os.environ | {}).get('STAGE')",
    "compared": "SEEN = os.environ == {'STAGE': 'a'}, len(os.environ)",
    "getenvb": "SEEN = os.getenvb(b'STAGE')",
    "deleted": "try:\n    del os.environ['STAGE']\n    SEEN = 1\nexcept KeyError:\n    SEEN = 0",
    "matched": "match os.environ:\n    case {'STAGE': found}:\n        SEEN = found\n    case _:\n        SEEN = 0",
    "below the surface": "import posix\nSEEN = posix.environ.get(b'STAGE')",
    "substituted": "import string\nSEEN = string.Template('$STAGE').safe_substitute(os.environ)",
    "formatted": "SEEN = '{0}'.format(*[os.environ.get(name) for name in ['STAGE']])",
    "popped": "SEEN = os.environ.pop('STAGE', 'none')",
    "with a default set": "SEEN = os.environ.setdefault('STAGE', 'none')",
}


@pytest.mark.parametrize("line", ENVIRONMENT.values(), ids=list(ENVIRONMENT))
def test_however_a_variable_is_read_setting_changing_and_unsetting_it_is_seen(line: str, tmp_path: Path) -> None:
    checkout = small(tmp_path, f"import os\n{line}", SMALL_MANIFEST + 'pass_env = ["STAGE"]\n')
    for value in ("a", "bb", None):
        checkout.environ.update({} if value is None else {"STAGE": value})
        if value is None:
            del checkout.environ["STAGE"]
        assert checkout.deploy()["discover"] == "environment variable `STAGE` changed"
        assert checkout.deploy() == {}


FILES_READ: dict[str, tuple[str, str]] = {
    "Path.read_text": ("SEEN = Path('data').read_text()", "data changed"),
    "open in binary": ("SEEN = open('data', 'rb').read()", "data changed"),
    "os.open": ("SEEN = os.read(os.open('data', os.O_RDONLY), 99)", "data changed"),
    "json": ("SEEN = json.load(open('data'))", "data changed"),
    "absolute": ("SEEN = (Path(__file__).parent / 'data').read_text()", "data changed"),
    "through a link": ("SEEN = Path('link').read_text()", "link changed"),
    "package resource": (
        "SEEN = importlib.resources.files('package').joinpath('data').read_text()",
        "package/data changed",
    ),
    "pkgutil": ("SEEN = pkgutil.get_data('package', 'data')", "package/data changed"),
    "runpy": ("SEEN = runpy.run_path('script.py')['SEEN']", "script.py changed"),
    "exec": ("exec(compile(open('script.py').read(), 'script.py', 'exec'))", "script.py changed"),
    "importlib": ("SEEN = importlib.import_module('script').SEEN", "script.py changed"),
    "spec from a file": (
        "spec = importlib.util.spec_from_file_location('other', 'script.py')\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\nSEEN = module.SEEN",
        "script.py changed",
    ),
    "fileinput": ("SEEN = list(fileinput.input('data'))", "data changed"),
    "after chdir": ("os.chdir('package')\nSEEN = open('data').read()", "package/data changed"),
    "through another module": ("import linecache\nSEEN = linecache.getline('data', 1)", "data changed"),
    "sqlite": ("SEEN = sqlite3.connect('data') and 1", "data changed"),
    "outside the repository": (
        "sys.path.insert(0, '{outside}')\nfrom far import SEEN",
        "{outside}/far.py changed",
    ),
    "data outside the repository": ("SEEN = open('{outside}/far.py').read()", "{outside}/far.py changed"),
    "appended": ("with open('data', 'r+') as f:\n    SEEN = f.read()", "data changed"),
    "size": ("SEEN = os.path.getsize('data')", "data changed"),
    "size of a path": ("SEEN = Path('data').stat().st_size", "data changed"),
    "database by URI": ("SEEN = sqlite3.connect('file:data?mode=ro', uri=True) and 1", "data changed"),
    "database by a quoted URI": ("SEEN = sqlite3.connect('file:d%61ta?mode=ro#top', uri=True) and 1", "data changed"),
    "database by an absolute URI": (
        "SEEN = sqlite3.connect(Path('data').absolute().as_uri(), uri=True) and 1",
        "data changed",
    ),
    "missed exclusively": (
        "try:\n    open('data', 'x')\nexcept OSError:\n    SEEN = open('data').read()",
        "data changed",
    ),
    "appended to first": ("open('data', 'a').close()\nSEEN = open('data').read()", "data changed"),
    "below an open folder": (
        "folder = os.open('package', os.O_RDONLY)\nSEEN = os.read(os.open('data', os.O_RDONLY, dir_fd=folder), 99)",
        "package/data changed",
    ),
    "size below an open folder": (
        "folder = os.open('package', os.O_RDONLY)\nSEEN = os.stat('data', dir_fd=folder).st_size",
        "package/data changed",
    ),
    "through a link of one's own": (
        "import tempfile\nfolder = tempfile.mkdtemp()\nos.symlink(os.path.abspath('data'), f'{folder}/link')\n"
        "SEEN = open(f'{folder}/link').read()",
        "data changed",
    ),
    "through a linked folder of one's own": (
        "import tempfile\nfolder = tempfile.mkdtemp()\nos.symlink(os.path.abspath('package'), f'{folder}/link')\n"
        "SEEN = open(f'{folder}/link/data').read()",
        "package/data changed",
    ),
    "through a hard link of one's own": (
        "os.link('data', 'other')\nSEEN = open('other').read()\nos.unlink('other')",
        "data changed",
    ),
    "after moving it": (
        "os.rename('data', 'other')\nSEEN = open('other').read()\nos.rename('other', 'data')",
        "data changed",
    ),
    "mapped": ("import mmap\nwith open('data') as f:\n    SEEN = mmap.mmap(f.fileno(), 0, prot=1)[:]", "data changed"),
    "source": ("import inspect, script\nSEEN = inspect.getsource(script)", "script.py changed"),
    "shared library": (
        "import ctypes\ntry:\n    ctypes.CDLL('./data')\nexcept OSError:\n    SEEN = 1",
        "data changed",
    ),
    "link to the package": ("SEEN = importlib.resources.read_text('package', 'data')", "package/data changed"),
    "resource opened": (
        "with importlib.resources.as_file(importlib.resources.files('package') / 'data') as path:\n"
        "    SEEN = path.read_text()",
        "package/data changed",
    ),
    "loaded in a thread": (
        "import threading\nSEEN = []\nt = threading.Thread(target=lambda: SEEN.append(open('data').read()))\n"
        "t.start(); t.join()",
        "data changed",
    ),
}


@pytest.mark.parametrize(("line", "reason"), FILES_READ.values(), ids=list(FILES_READ))
def test_however_a_file_is_read_an_edit_of_it_is_seen(line: str, reason: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "repo", tmp_path / "outside"
    texts = {name: folder / name for name in ("data", "package/data", "script.py")} | {"far.py": outside / "far.py"}
    for name, path in texts.items():
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("SEEN = 1" if name.endswith(".py") else "[1]")
    (folder / "package" / "__init__.py").touch()
    (folder / "link").symlink_to("data")
    names = "fileinput, importlib, importlib.resources, importlib.util, json, os, pkgutil, runpy, shutil, sqlite3, sys"
    head = f"import {names}\nfrom pathlib import Path\n{line}".replace("{outside}", str(outside))
    checkout = small(folder, head)
    assert checkout.deploy() == {}
    for path in texts.values():
        path.write_text(path.read_text().replace("1", "2"))
    assert checkout.deploy()["discover"] == reason.replace("{outside}", str(outside))
    assert checkout.deploy() == {}


ABOVE_A_LINK = {
    "a file": "SEEN = open('current/../data').read()",
    "a file that is looked for": "SEEN = os.path.exists('current/../new')",
    "a folder that is listed": "SEEN = sorted(os.listdir('current/..'))",
    "a module": "sys.path.insert(0, os.path.join(os.getcwd(), 'current', '..'))\nfrom code_of import SEEN",
}


@pytest.mark.parametrize("line", ABOVE_A_LINK.values(), ids=list(ABOVE_A_LINK))
def test_what_lies_above_where_a_link_leads_is_seen_and_so_is_the_link(line: str, tmp_path: Path) -> None:
    for name in ("old/1/kept", "old/data", "old/code_of.py", "next/1/kept", "next/data", "next/new", "next/code_of.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"SEEN = '{name}'")
    (tmp_path / "current").symlink_to("old/1")
    checkout = small(tmp_path, f"import os, sys\n{line}")
    before = checkout.left("small").specs
    assert checkout.deploy() == {}
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("next/1")
    assert checkout.deploy()["discover"] == "files in . changed"
    assert checkout.left("small").specs != before
    for name in ("new", "data", "code_of.py"):
        (tmp_path / "next" / name).unlink()
    (tmp_path / "next" / "data").write_text("other")
    (tmp_path / "next" / "code_of.py").write_text("SEEN = 'other'")
    assert checkout.deploy()["discover"].startswith(("next/", "files in next "))
    assert checkout.deploy() == {}


MODES = {
    "os.access": "SEEN = os.access('tool', os.X_OK)",
    "by name": "SEEN = os.access(path='tool', mode=os.X_OK)",
    "os.stat": "SEEN = oct(os.stat('tool').st_mode & 0o100)",
    "Path.stat": "SEEN = Path('tool').stat().st_mode & 0o100",
    "after reading it": "SEEN = open('tool').read() + oct(os.stat('tool').st_mode & 0o100)",
    "shutil.which": "import shutil\nSEEN = shutil.which('tool', path=os.getcwd()) is None",
}


@pytest.mark.parametrize("line", MODES.values(), ids=list(MODES))
def test_however_code_asks_whether_a_file_can_be_executed_a_change_of_that_is_seen(line: str, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh")
    tool.chmod(0o644)
    checkout = small(tmp_path, f"import os\nfrom pathlib import Path\n{line}")
    tool.chmod(0o600)
    assert checkout.deploy() == {}
    tool.chmod(0o755)
    assert checkout.deploy()["discover"] == "tool changed its executable bit"
    assert checkout.deploy() == {}


@pytest.mark.parametrize("line", ["os.path.islink('new')", "Path('new').is_symlink()"])
def test_a_file_that_becomes_a_link_is_seen_by_who_asked_for_a_link(line: str, tmp_path: Path) -> None:
    (tmp_path / ".flyte-build").mkdir()
    (tmp_path / "new").write_text("")
    checkout = small(tmp_path, f"import os\nfrom pathlib import Path\nSEEN = {line}")
    (tmp_path / "new").unlink()
    (tmp_path / "new").symlink_to("small.py")
    assert checkout.deploy()["discover"] == "files in . changed"
    assert checkout.deploy() == {}


def test_what_a_database_has_committed_and_not_yet_in_its_file_is_seen(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "data", isolation_level=None)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("create table t as select 1 as n")
        reading = "sqlite3.connect('file:data?mode=ro', uri=True).execute('select * from t').fetchall()"
        checkout = small(tmp_path, f"import sqlite3\nSEEN = {reading}")
        assert checkout.deploy() == {}
        writer.execute("update t set n = 2")
        assert checkout.deploy()["discover"] == "data-wal changed"
        assert checkout.deploy() == {}


LOOKED_FOR: dict[str, tuple[str, str]] = {
    "os.path.exists": ("SEEN = os.path.exists('new')", "new is now file"),
    "os.path.isfile": ("SEEN = os.path.isfile('new')", "new is now file"),
    "os.path.isdir": ("SEEN = os.path.isdir('new')", "new is now file"),
    "os.path.lexists": ("SEEN = os.path.lexists('new')", "new is now file"),
    "os.access": ("SEEN = os.access('new', os.R_OK)", "new is now file"),
    "os.stat": ("try:\n    SEEN = os.stat('new').st_size\nexcept OSError:\n    SEEN = 0", "new is now file"),
    "Path.exists": ("SEEN = Path('new').exists()", "new is now file"),
    "Path.is_file": ("SEEN = (Path(__file__).parent / 'new').is_file()", "new is now file"),
    "open": ("try:\n    SEEN = open('new').read()\nexcept OSError:\n    SEEN = ''", "new is new"),
    "import": (
        "try:\n    import new as SEEN\nexcept ImportError:\n    SEEN = 0",
        "import of `new` finds another file in .",
    ),
    "find_spec": ("SEEN = importlib.util.find_spec('new') is None", "import of `new` finds another file in ."),
    "os.listdir": ("SEEN = os.listdir('.')", "files in . changed"),
    "os.scandir": ("SEEN = sorted(entry.name for entry in os.scandir('.'))", "files in . changed"),
    "os.walk": ("SEEN = any('new' in files for _, _, files in os.walk('.'))", "files in . changed"),
    "Path.iterdir": ("SEEN = len(list(Path('.').iterdir()))", "files in . changed"),
    "Path.glob": ("SEEN = len(list(Path('.').glob('n*')))", "files in . changed"),
    "Path.glob of a name": ("SEEN = len(list(Path('.').glob('new')))", "new is now file"),
    "Path.rglob": ("SEEN = len(list(Path('.').rglob('new')))", "files in . changed"),
    "glob.glob of a name": ("SEEN = len(glob.glob('new'))", "new is now file"),
    "glob.iglob": ("SEEN = len(list(glob.iglob('new', root_dir=os.getcwd())))", "new is now file"),
    "os.path.realpath": ("SEEN = os.path.realpath('new')", "new is now file"),
    "Path.resolve": (
        "try:\n    SEEN = Path('new').resolve(strict=True)\nexcept OSError:\n    SEEN = 0",
        "new is now file",
    ),
    "glob.glob": ("SEEN = glob.glob('n*')", "files in . changed"),
    "pkgutil": ("SEEN = [each.name for each in pkgutil.iter_modules(['.'])]", "files in . changed"),
    "os.fwalk": ("SEEN = any('new' in files for _, _, files, _ in os.fwalk('.'))", "files in . changed"),
    "open folder listed": ("SEEN = os.listdir(os.open('.', os.O_RDONLY))", "files in . changed"),
    "resources": (
        "import importlib.resources, package\n"
        "SEEN = [each.name for each in importlib.resources.files(package).iterdir()]",
        "files in package changed",
    ),
    "missing folder listed": (
        "try:\n    SEEN = os.listdir('new')\nexcept OSError:\n    SEEN = []",
        "files in new changed",
    ),
}


@pytest.mark.parametrize(("line", "reason"), LOOKED_FOR.values(), ids=list(LOOKED_FOR))
def test_however_a_file_is_looked_for_its_appearing_is_seen(line: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / ".flyte-build").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    checkout = small(tmp_path, f"import glob, importlib.util, os, pkgutil\nfrom pathlib import Path\n{line}")
    assert checkout.deploy() == {}
    if "new changed" in reason:
        checkout.write("new/file", "")
    elif "package changed" in reason:
        checkout.write("package/new", "")
    else:
        checkout.write("new.py" if "import of" in reason else "new", "")
    assert checkout.deploy()["discover"] == reason


@pytest.mark.parametrize("line", ["os.path.realpath('data')", "Path('data').resolve()", "*Path('.').glob('data')"])
def test_who_asks_where_a_file_is_has_not_read_it(line: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("1")
    checkout = small(tmp_path, f"import os\nfrom pathlib import Path\nSEEN = len(str([{line}])) > 0")
    (tmp_path / "data").write_text("22")
    assert checkout.deploy() == {}


def test_a_name_that_is_not_utf8_in_a_folder_is_seen_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    checkout = small(tmp_path, "import os\nSEEN = len(os.listdir('data'))")
    (tmp_path / "data" / os.fsdecode(b"caf\xe9")).touch()
    (tmp_path / os.fsdecode(b"\xff.txt")).touch()
    assert checkout.deploy()["discover"] == "files in data changed"
    assert checkout.deploy() == {}


def test_an_installed_distribution_makes_discovery_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "venv" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    checkout = small(tmp_path / "repo", "SEEN = 1")
    for change, what in (
        (lambda: (site / "other-1.0.dist-info").mkdir(), "other 1.0 is new"),
        (lambda: (site / "other-1.0.dist-info").rename(site / "other-1.1.dist-info"), "other 1.0 -> 1.1"),
        (lambda: (site / "other-1.1.dist-info/RECORD").write_text("other.py,,\n"), "files of other"),
        (lambda: shutil.rmtree(site / "other-1.1.dist-info"), "other 1.1 is gone"),
        (lambda: (site / "other.pth").write_text("elsewhere\n"), "other.pth is new"),
        (lambda: (site / "other.pth").unlink(), "other.pth is gone"),
    ):
        change()
        assert checkout.deploy() == {"discover": f"installed distributions changed: {what}"}
        assert checkout.deploy() == {}


def test_another_import_path_makes_discovery_stale(tmp_path: Path) -> None:
    for name, value in (("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings_of_ours.py").write_text(f"SEEN = {value}\n")
    checkout = Checkout(tmp_path / "repo")
    checkout.write("deploy.toml", SMALL_MANIFEST)
    checkout.write("small.py", f"from settings_of_ours import SEEN\nimport flyte\n{TASK}")
    repository = Repository(tmp_path / "repo")
    repository.environ["PYTHONPATH"] = str(tmp_path / "first")
    assert repository.doit().code == 0
    assert "fresh     small" in repository.doit().err
    repository.environ["PYTHONPATH"] = os.pathsep.join(str(tmp_path / name) for name in ("second", "first"))
    assert "deployed  small" in repository.doit().err
    assert b"SEEN\x12\x012" in checkout.left("small").specs["small.work"]


def test_a_file_that_appears_while_the_code_loads_is_seen_next_time(tmp_path: Path) -> None:
    """What counts is what the code saw, not what was there when it had ended."""
    (tmp_path / "data").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    head = """
        import os
        SEEN = [os.listdir("data")]
        try:
            from package import late
        except ImportError:
            SEEN.append("none")
        for name in ("data/new", "package/late.py"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        """
    checkout = small(tmp_path, head)
    assert set(checkout.deploy()) >= {"discover", "serialize", "deploy"}
    assert checkout.deploy() == {}


def test_locale_and_time_zone_are_the_same_everywhere(tmp_path: Path) -> None:
    small(tmp_path, "import os, time\nSEEN = (time.tzname[0], os.environ['LC_ALL'], os.environ.get('LANG'))")
    repository = Repository(tmp_path)
    repository.environ |= {"TZ": "Asia/Tokyo", "LC_ALL": "POSIX", "LANG": "C"}
    assert "fresh     small" in repository.doit().err
    assert b"('UTC', 'C.UTF-8', None)" in Checkout(tmp_path).left("small").specs["small.work"]


def trace(checkout: Checkout) -> Trace:
    receipt = checkout.project().receipt("small", "discover")
    assert isinstance(receipt, Receipt)
    return receipt.trace


def test_a_read_in_one_thread_is_seen_while_another_is_recorded(tmp_path: Path) -> None:
    for number in range(16):
        (tmp_path / f"{number}.bin").write_bytes(bytes(1_000_000))
    head = """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            SEEN = len(list(pool.map(lambda n: open(f"{n}.bin", "rb").read(1), range(16))))
        """
    seen = trace(small(tmp_path, head)).files
    assert {name for name in seen if name.endswith(".bin")} == {f"{number}.bin" for number in range(16)}


SPEC_FROM_FILE = """
    import importlib.util
    import sys
    spec = importlib.util.spec_from_file_location("plugin", "plugins/plugin.py")
    sys.modules["plugin"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    SEEN = module.SEEN
    """


def test_a_module_loaded_from_a_file_runs_as_it_is_and_is_bundled_whatever_its_pyc_says(tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "plugin.py"
    plugin.parent.mkdir()
    plugin.write_text("SEEN = 'old'")
    py_compile.compile(str(plugin), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    plugin.write_text("SEEN = 'new'")
    checkout = small(tmp_path, SPEC_FROM_FILE)
    left = checkout.left("small")
    assert b"new" in left.specs["small.work"]
    with tarfile.open(fileobj=io.BytesIO(left.bundle)) as archive:
        assert "plugins/plugin.py" in archive.getnames()


def test_a_module_that_a_loader_of_the_users_own_made_is_bundled(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("SEEN = 1")
    head = """
        import sys
        import types
        module = types.ModuleType("plugin")
        module.__file__ = "plugin.py"
        sys.modules["plugin"] = module
        SEEN = 1
        """
    checkout = small(tmp_path, head)
    with tarfile.open(fileobj=io.BytesIO(checkout.left("small").bundle)) as archive:
        assert sorted(archive.getnames()) == ["plugin.py", "small.py"]
    assert set(trace(checkout).files) == {"plugin.py", "small.py"}


def test_a_compiled_module_in_the_place_of_one_that_is_loaded_anyway_is_bundled_and_counts(tmp_path: Path) -> None:
    compiled = Path(str(importlib.import_module("xxhash._xxhash").__file__))  # which the parent of loads has imported
    shutil.copy(compiled, tmp_path / compiled.name)
    head = f"""
        import importlib.util
        import sys
        spec = importlib.util.spec_from_file_location("xxhash._xxhash", "{compiled.name}")
        sys.modules["xxhash._xxhash"] = module = importlib.util.module_from_spec(spec)
        SEEN = module.__file__.endswith("{compiled.name}")
        """
    checkout = small(tmp_path, head)
    with tarfile.open(fileobj=io.BytesIO(checkout.left("small").bundle)) as archive:
        assert sorted(archive.getnames()) == sorted([compiled.name, "small.py"])
    assert checkout.deploy() == {}
    with (tmp_path / compiled.name).open("ab") as file:
        file.write(b"\0")
    assert checkout.deploy()["discover"] == f"{compiled.name} changed"


def test_a_module_of_the_users_own_loader_in_the_place_of_one_that_is_loaded_anyway_is_bundled(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("SEEN = 1")
    head = """
        import sys
        import types
        module = types.ModuleType("json")
        module.__file__ = "plugin.py"
        exec(open("plugin.py").read(), vars(module))
        there, sys.modules["json"] = sys.modules["json"], module
        SEEN = module.SEEN
        """
    checkout = small(tmp_path, head)
    with tarfile.open(fileobj=io.BytesIO(checkout.left("small").bundle)) as archive:
        assert sorted(archive.getnames()) == ["plugin.py", "small.py"]


def test_a_file_imported_twice_is_refused_also_in_the_place_of_a_module_that_is_loaded_anyway(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("SEEN = 1")
    head = """
        import importlib.util
        import sys
        spec = importlib.util.spec_from_file_location("json", "plugin.py")
        there, sys.modules["json"] = sys.modules["json"], importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["json"])
        from plugin import SEEN
        """
    with pytest.raises(ModuleImportedTwice, match=r"plugin\.py"):
        small(tmp_path, head)


def test_a_file_imported_twice_is_refused_also_where_code_turned_the_order_of_modules(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "plugin.py").write_text("SEEN = 1")
    head = """
        import sys
        sys.path.append("package")
        import package.plugin
        from plugin import SEEN
        for name in list(reversed(sys.modules)):
            sys.modules[name] = sys.modules.pop(name)
        """
    with pytest.raises(ModuleImportedTwice, match=r"package/plugin\.py"):
        small(tmp_path, head)


def test_an_audit_event_of_the_codes_own_that_has_another_s_name_is_nothing(tmp_path: Path) -> None:
    checkout = small(tmp_path, "import sys\nsys.audit('import', 'x')\nsys.audit('import')\nSEEN = 1")
    assert checkout.deploy() == {}


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system in memory")
def test_a_checkout_in_memory_is_a_checkout() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        checkout = small(Path(folder) / "repo", "SEEN = open('/dev/null').read()")
        with tarfile.open(fileobj=io.BytesIO(checkout.left("small").bundle)) as archive:
            assert archive.getnames() == ["small.py"]
        assert set(trace(checkout).files) == {"small.py"}
        assert checkout.deploy() == {}
        checkout.write("small.py", checkout.read("small.py") + "\n# new\n")
        assert checkout.deploy()["discover"] == "small.py changed"


def test_what_is_read_while_tasks_are_serialized_is_seen(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("1")
    head = """
        import flyte.extend

        class Configured(flyte.extend.AsyncFunctionTaskTemplate):
            def custom_config(self, context):
                return {"seen": open("data").read()}

        flyte.extend.TaskPluginRegistry.register(dict, Configured)
        SEEN = 1
        """
    checkout = small(tmp_path, head)
    checkout.replace("small.py", 'name="small",', 'name="small", plugin_config={"a": 1},')
    checkout.deploy()
    checkout.write("data", "2")
    assert checkout.deploy()["discover"] == "data changed"


def test_a_trace_names_what_the_code_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from pathlib import Path\nSEEN = Path(__file__).resolve().name")
    seen = trace(small(tmp_path, "from package import SEEN"))
    assert (set(seen.files), seen.folders, seen.exists) == ({"small.py", "package/__init__.py"}, {}, {})


WRITING = {
    "temporary file left behind": "SEEN = len(tempfile.mkstemp(dir='.')) + os.path.getsize(tempfile.mkstemp()[1])",
    "temporary folder": "with tempfile.TemporaryDirectory() as f:\n    SEEN = os.listdir(f)",
    "log": "with open('log', 'a') as f:\n    SEEN = f.write('x')",
    "written anew": "with open('log', 'w+') as f:\n    f.write(str(os.getpid()))\nSEEN = open('log').read() > ''",
    "moved into place": (
        "shutil.copy('small.py', 'part')\nos.replace('part', 'whole')\nSEEN = len(open('whole').read())"
    ),
    "folder moved into place": (
        "os.mkdir('part')\nopen('part/file', 'w').close()\nos.rename('part', 'whole')\n"
        "SEEN = open('whole/file').read() + 'x'"
    ),
    "database in memory": "SEEN = sqlite3.connect(':memory:').execute('select 1').fetchone()",
}


@pytest.mark.parametrize("line", WRITING.values(), ids=list(WRITING))
def test_what_the_code_writes_itself_does_not_make_it_stale(line: str, tmp_path: Path) -> None:
    checkout = small(tmp_path, f"import os, shutil, sqlite3, tempfile\n{line}")
    assert checkout.deploy() == {}


def test_a_file_name_and_an_error_that_are_not_utf8_can_be_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    checkout = small(tmp_path, "SEEN = open(b'caf\\xe9').read()")
    assert "caf\\xe9" in trace(checkout).files
    checkout.write("small.py", "raise ValueError('\\ud800')")
    with pytest.raises(FileRaised) as caught:
        checkout.deploy()
    assert caught.value.message.splitlines()[0] == ("small.py:1: loading failed: ValueError: \\ud800; mend the code")


def test_an_environment_variable_that_is_not_utf8_harms_nothing_and_can_be_passed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.environ = {os.fsdecode(b"\xff"): "1", "STAGE": os.fsdecode(b"caf\xe9")}
    checkout.write("deploy.toml", SMALL_MANIFEST + 'pass_env = ["STAGE"]\n')
    checkout.write("small.py", f"import os\nimport flyte\nSEEN = os.environb[b'STAGE']\n{TASK}")
    assert "deploy" in checkout.deploy()
    assert checkout.deploy() == {}


def test_a_file_named_like_a_module_of_pythons_own_is_refused(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, {"resource.py": f"import flyte\nSEEN = 1\n{TASK}"})
    checkout.write("deploy.toml", SMALL_MANIFEST.replace("small.py", "resource.py"))
    with pytest.raises(ModuleNameTaken) as caught:
        checkout.deploy()
    assert caught.value.message == (
        "resource.py: another module named `resource` is imported in its place; rename the file, "
        "or set `root_dir` in [targets.small] to a folder above it"
    )


def archive(path: Path, **modules: str) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in modules.items():
            made.writestr(f"{name}.py", text)


@pytest.mark.parametrize(
    ("line", "modules"),
    [
        ("from inside import SEEN", {"inside": "SEEN = {}"}),
        ("from package.inside import SEEN", {"package/__init__": "", "package/inside": "SEEN = {}"}),
        ("sys.path[0] = 'lib.zip/deep'\nfrom inside import SEEN", {"deep/inside": "SEEN = {}"}),
        ("import pkgutil\nSEEN = pkgutil.get_data('inside', 'inside.py')", {"inside": "SEEN = {}"}),
    ],
)
def test_an_archive_that_code_is_imported_from_counts(line: str, modules: dict[str, str], tmp_path: Path) -> None:
    archive(tmp_path / "lib.zip", **{name: text.format(1) for name, text in modules.items()})
    checkout = small(tmp_path, f"import sys\nsys.path.insert(0, 'lib.zip')\n{line}")
    assert checkout.deploy() == {}
    archive(tmp_path / "lib.zip", **{name: text.format(2) for name, text in modules.items()})
    assert checkout.deploy()["discover"] == "lib.zip changed"
    assert checkout.deploy() == {}


@pytest.mark.parametrize("there", [True, False], ids=["without the module", "missing"])
def test_an_archive_that_was_looked_into_in_vain_counts(there: bool, tmp_path: Path) -> None:
    """Also where the discovery process itself, not the code, has it on its import path."""
    if there:
        archive(tmp_path / "lib.zip", other="")
    checkout = Checkout(tmp_path / "repo")
    checkout.write("deploy.toml", SMALL_MANIFEST)
    attempt = "try:\n    from inside import SEEN\nexcept ImportError:\n    SEEN = 0"
    checkout.write("small.py", f"{attempt}\nimport flyte\n{TASK}")
    checkout.environ["PYTHONPATH"] = str(tmp_path / "lib.zip")
    checkout.deploy()
    assert checkout.deploy() == {}
    archive(tmp_path / "lib.zip", inside="SEEN = 1")
    assert checkout.deploy()["discover"] == f"{tmp_path}/lib.zip {'changed' if there else 'is now file'}"
    assert b"SEEN\x12\x011" in checkout.left("small").specs["small.work"]


def test_a_sibling_that_a_path_file_names_counts(tmp_path: Path) -> None:
    """As an editable installation has it: the file, the folder it names, and what is imported from there."""
    sibling, other, site = tmp_path / "sibling", tmp_path / "other", tmp_path / "repo" / "site"
    for folder, value in ((sibling, 1), (other, 3), (site, 0)):
        folder.mkdir(parents=True)
        (folder / "ours.py").write_text(f"SEEN = {value}\n")
    (site / "ours.py").rename(site / "ours.pth")
    (site / "ours.pth").write_text(f"{sibling}\n")
    checkout = small(tmp_path / "repo", "import site\nsite.addsitedir('site')\nfrom ours import SEEN")
    assert checkout.deploy() == {}
    (sibling / "ours.py").write_text("SEEN = 2\n")
    assert checkout.deploy()["discover"] == f"{sibling}/ours.py changed"
    (site / "ours.pth").write_text(f"{other}\n")
    assert checkout.deploy()["discover"] == "site/ours.pth changed"
    (site / "more.pth").write_text(f"{other}\n")
    assert checkout.deploy()["discover"] == "files in site changed"
    assert checkout.deploy() == {}


def test_the_version_of_a_distribution_in_the_repository_counts(tmp_path: Path) -> None:
    metadata = tmp_path / "ours-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: ours\nVersion: 1.0\n")
    checkout = small(tmp_path, "import importlib.metadata\nSEEN = importlib.metadata.version('ours')")
    assert checkout.deploy() == {}
    metadata.write_text("Name: ours\nVersion: 1.1\n")
    assert checkout.deploy()["discover"] == "ours-1.0.dist-info/METADATA changed"
    metadata.parent.rename(tmp_path / "ours-1.2.dist-info")
    assert "discover" in checkout.deploy()
    assert checkout.deploy() == {}


def test_a_distribution_that_was_missing_on_the_import_path_counts(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    checkout = Checkout(tmp_path / "repo", {"deploy.toml": SMALL_MANIFEST})
    attempt = "try:\n    SEEN = metadata.version('ours')\nexcept metadata.PackageNotFoundError:\n    SEEN = 'none'"
    checkout.write("small.py", f"from importlib import metadata\n{attempt}\nimport flyte\n{TASK}")
    checkout.environ["PYTHONPATH"] = str(tmp_path / "libs")
    checkout.deploy()
    (tmp_path / "libs" / "ours-1.0.dist-info").mkdir()
    (tmp_path / "libs" / "ours-1.0.dist-info" / "METADATA").write_text("Name: ours\nVersion: 1.0\n")
    assert checkout.deploy()["discover"] == f"files in {tmp_path}/libs changed"
    assert b"SEEN\x12\x031.0" in checkout.left("small").specs["small.work"]


def test_a_folder_removed_by_the_code_is_not_taken_for_one_of_the_repository(tmp_path: Path) -> None:
    """Removing a tree opens each folder below an open one, by half of its path."""
    (tmp_path / "data").mkdir()
    head = """
        import os
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "data"))
        SEEN = 1
        """
    checkout = small(tmp_path, head)
    assert "data" not in trace(checkout).folders
    checkout.write("data/file", "")
    assert checkout.deploy() == {}
