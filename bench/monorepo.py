"""A synthetic monorepo of any size, for tests and measurements.

    services/svc_000/   22 files: 2 environments with 5 tasks each, and 20 modules that they import
    shared/             21 files: a package that every service imports whole
    deploy.toml         one target for each service

`Shape` asks for other numbers, or for a package that every workflow imports. The tasks name an image that needs no
build, and environments have names of their own, so that `flyte deploy --recursive services` deploys the same tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent


@dataclass(frozen=True)
class Shape:
    """What a service and the shared package hold."""

    modules: int = 20
    """Of a service, besides `__init__.py` and `workflow.py`."""
    tasks: int = 10
    """Of a service, in two environments."""
    shared: int = 20
    """Modules in `shared`, besides `__init__.py`."""
    heavy: str = ""
    """An installed package that every workflow imports, such as `boto3`; empty: none."""


SHAPE = Shape()
ENVIRONMENTS_PER_SERVICE = 2
TASKS_PER_SERVICE = SHAPE.tasks
FILES_PER_SERVICE = SHAPE.modules + 2
SHARED_FILES = SHAPE.shared + 1

_WORKFLOW = '''
"""Tasks of service {number}."""

{heavy}import flyte

from services.{service} import {modules}
from shared import total

prepare_env = flyte.TaskEnvironment(name="{service}_prepare", image="{image}")
main_env = flyte.TaskEnvironment(
    name="{service}",
    image="{image}",
    resources=flyte.Resources(cpu=1, memory="512Mi"),
    depends_on=[prepare_env],
)
'''
_TASK = '''

@{environment}.task
async def {function}(count: int = {default}, name: str = "{function}") -> int:
    """Counts with module {module}."""
    return total(count) + {module}.scale(count) + len(name)
'''
_MODULE = '''
"""Module {number} of {owner}."""

from dataclasses import dataclass

FACTORS = [{factors}]


@dataclass
class Reading:
    name: str
    value: float


def scale(value: float) -> int:
    return int(sum(factor * value for factor in FACTORS))


def readings(count: int) -> list[Reading]:
    return [Reading(f"{owner}-{{index}}", FACTORS[index % len(FACTORS)]) for index in range(count)]
'''
_SHARED = '''
"""What the services share."""

from shared import {modules}


def total(count: int) -> int:
    return sum(module.scale(count) for module in ({modules}))
'''
_MANIFEST = """
[targets.services]
for_each = "services/*"
path = "{dir}/workflow.py"
all = true
"""
_IMAGE = "ghcr.io/flyteorg/flyte:py3.11-v2.0.0"


def generate(folder: Path, services: int, *, settings: str = "", shape: Shape = SHAPE) -> None:
    """Write the monorepo into `folder`. The same arguments give the same bytes.

    Args:
        services: how many.
        settings: TOML that goes before the targets, such as a `[flyte]` table.
        shape: what each of them holds.
    """
    common = _names("common", shape.shared)
    _write(folder / "deploy.toml", dedent(settings) + _MANIFEST)
    _write(folder / "shared" / "__init__.py", _SHARED.format(modules=", ".join(common)))
    _write_modules(folder / "shared", common, "shared")
    for number in range(services):
        _write_service(folder / "services" / f"svc_{number:03}", number, shape)


def _write_service(folder: Path, number: int, shape: Shape) -> None:
    service, modules = folder.name, _names("part", shape.modules)
    heavy = f"import {shape.heavy}\n" if shape.heavy else ""
    names = {"number": number, "service": service, "modules": ", ".join(modules), "image": _IMAGE, "heavy": heavy}
    tasks = [
        _TASK.format(
            environment="prepare_env" if index < shape.tasks // ENVIRONMENTS_PER_SERVICE else "main_env",
            function=f"step_{index}",
            default=index,
            module=modules[2 * index % len(modules)],
        )
        for index in range(shape.tasks)
    ]
    _write(folder / "__init__.py", f'"""Service {number}."""\n')
    _write(folder / "workflow.py", _WORKFLOW.format(**names) + "".join(tasks))
    _write_modules(folder, modules, service)


def _write_modules(folder: Path, names: list[str], owner: str) -> None:
    for number, name in enumerate(names):
        factors = ", ".join(str(number * step % 97) for step in range(1, 41))
        _write(folder / f"{name}.py", _MODULE.format(number=number, owner=owner, factors=factors))


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{number:02}" for number in range(count)]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.lstrip("\n"), encoding="utf-8")
