"""All the other files at once: one environment that depends on each of theirs."""

from importlib import import_module
from pathlib import Path

import flyte

ROOT = Path(__file__).parent

modules = [
    import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.rglob("*.py"))
    if path.name not in ("__init__.py", "everything.py")
]
env = flyte.TaskEnvironment(
    name="everything",
    depends_on=[value for module in modules for value in vars(module).values() if isinstance(value, flyte.Environment)],
)
