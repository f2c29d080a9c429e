"""Random monorepos and random edits of them, and which targets a file concerns: what the oracle is made of.

A tree is text by path. Modules hold a number, import one another at module level or inside a function, and look at
data, folders, variables and distributions while they load; a workflow shows all of that in its environment.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

Tree = dict[str, str]
DISTRIBUTION = "ours"
SERVICES = ("alpha", "beta", "gamma")
READS = {
    "nothing": "SEEN = ''",
    "data": "SEEN = open('data/one.txt').read()",
    "missing data": "SEEN = open('data/late.txt').read() if os.path.exists('data/late.txt') else ''",
    "folder": "SEEN = ' '.join(sorted(os.listdir('plugins')))",
    "variable": "SEEN = os.environ.get('STAGE', 'dev')",
    "distribution": f"SEEN = metadata.version('{DISTRIBUTION}')",
}
SETTINGS = (
    "lazy_imports = false",
    'copy_style = "all"',
    'exclude = ["**/spare.py"]',
    'include = ["data/*.txt"]',
    "sync_local_sys_paths = false",
    'version = "{content}-x"',
    "ignore_load_errors = true",
)
_MODULE = """
import os
from importlib import metadata

{imports}
{read}
NUMBER = "1"
VALUE = " ".join(["{name}", NUMBER, SEEN, {values}])


def work(x: int) -> str:
{lazily}    return VALUE
"""
_WORKFLOW = """

import flyte

env = flyte.TaskEnvironment(name="{name}", image="image:1", env_vars={{"VALUE": VALUE}})


@env.task
async def {name}_task(x: int) -> str:
    return work(x)
"""


@dataclass(frozen=True)
class Edit:
    """An edit of a kind, and two numbers that choose among what there is when it is made."""

    kind: str
    first: int
    second: int
    during: bool = False
    """Whether it is made while a deploy runs, between two of its steps."""


@dataclass(frozen=True)
class Story:
    """A monorepo and what happens to it."""

    tree: Tree
    edits: tuple[Edit, ...] = field(default=())


KINDS = (
    *("edit", "edit", "edit", "touch", "same size", "time put back", "rename", "move", "delete", "undelete", "shadow"),
    *("data", "late data", "plugin", "variable", "distribution", "mode", "link", "setting", "comment", "spare"),
    "target",
)


def module(name: str, *, eager: Sequence[str], lazy: Sequence[str], read: str) -> str:
    names = [dotted.rpartition(".")[2] for dotted in eager]
    imports = [f"from {dotted} import VALUE as {short}_value" for dotted, short in zip(eager, names, strict=True)]
    return _MODULE.format(
        imports="\n".join(imports),
        read=READS[read],
        name=name,
        values=", ".join(f"{short}_value" for short in names),
        lazily="".join(f"    from {dotted} import VALUE\n" for dotted in lazy),
    )


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Two or three services, each with modules of its own, and a package that they share."""
    reads = st.sampled_from(sorted(READS))
    tree: Tree = {"shared/__init__.py": "", "services/__init__.py": "", "data/one.txt": "1", "plugins/first": ""}
    shared = [f"shared.base{number}" for number in range(3)]

    def add(dotted: str, below: list[str]) -> None:
        chosen = draw(st.lists(st.sampled_from(below), unique=True, max_size=2)) if below else []
        lazy = draw(st.lists(st.sampled_from(below), unique=True, max_size=1)) if below else []
        name = dotted.replace(".", "_")
        tree[f"{dotted.replace('.', '/')}.py"] = module(name, eager=chosen, lazy=lazy, read=draw(reads))

    for number, dotted in enumerate(shared):
        add(dotted, shared[:number])
    for service in SERVICES[: draw(st.integers(2, 3))]:
        tree[f"services/{service}/__init__.py"] = ""
        own = [f"services.{service}.part{number}" for number in range(2)]
        for number, dotted in enumerate(own):
            add(dotted, [*shared, *own[:number]])
        add(f"services.{service}.workflow", [*own, *shared])
        tree[f"services/{service}/workflow.py"] += _WORKFLOW.format(name=service)
    tree["shared/spare.py"] = "SPARE = 1\n"
    return tree


_edits = st.builds(
    Edit,
    kind=st.sampled_from(KINDS),
    first=st.integers(0, 200),
    second=st.integers(0, 200),
    during=st.sampled_from([False, False, False, True]),
)
stories = st.builds(Story, tree=trees(), edits=st.lists(_edits, min_size=4, max_size=8).map(tuple))


def manifest(tree: Tree, settings: dict[str, tuple[str, ...]], comment: str) -> str:
    """A table for each service that has a workflow and is in `settings`."""
    tables = [
        f'[targets.{service}]\npath = "services/{service}/workflow.py"\nenvironment = "env"\npass_env = ["STAGE"]\n'
        + "".join(f"{line}\n" for line in lines)
        for service, lines in settings.items()
        if f"services/{service}/workflow.py" in tree
    ]
    return f"# {comment}\n" + "\n".join(tables)


# --- what a target reaches, told from the text alone

_IMPORT = re.compile(r"^ *(?:from|import) ([\w.]+)", re.MULTILINE)
_PATH = re.compile(r"'((?:data|plugins)[\w/.]*)'")


@dataclass
class Reach:
    files: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    """Every part of a dotted name that is imported, and every path that is named."""
    reads: set[str] = field(default_factory=set)
    """Of `variable` and `distribution`."""

    def concerns(self, path: str) -> bool:
        """Whether a file that changes, comes or goes may change what the target is."""
        stem = posixpath.basename(path).removesuffix(".py")
        folder = posixpath.dirname(path)
        looked_for = {stem, posixpath.basename(folder), path, folder} & self.names
        return path in self.files or bool(looked_for)


def reach(tree: Tree, service: str) -> Reach:
    """Of a service's workflow. It errs on the side of what might matter."""
    found = Reach(names={"services", service, "workflow"})
    waiting = list(_candidates(f"services.{service}.workflow", ""))
    while waiting:
        path = waiting.pop()
        if path in found.files or path not in tree:
            continue
        found.files.add(path)
        text = tree[path]
        found.names |= set(_PATH.findall(text))
        found.reads |= {read for read in ("variable", "distribution") if READS[read] in text}
        for dotted in _IMPORT.findall(text):
            found.names |= set(dotted.split("."))
            waiting += _candidates(dotted, posixpath.dirname(path))
    return found


def _candidates(dotted: str, folder: str) -> Iterator[str]:
    """Files that an import may run, from the root or from beside the workflow."""
    for start in ("", folder):
        parts: list[str] = [start] if start else []
        for part in dotted.split("."):
            parts.append(part)
            yield posixpath.join(*parts, "__init__.py")
            yield f"{posixpath.join(*parts)}.py"


def read_tree(folder: str) -> Tree:
    """The tree as it is on the disk, links followed."""
    tree: Tree = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".flyte-build", "__pycache__")]
        for name in names:
            path = os.path.join(at, name)
            with open(path) as file:
                tree[os.path.relpath(path, folder)] = file.read()
    return tree
