"""doit's database, over our receipts: what `doit forget` forgets of our tasks is their receipts.

doit imports every installed database whenever it starts, in any project: so this module imports next to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, JsonDB


class ReceiptDatabase(JsonDB):  # type: ignore[misc]
    """Keeps doit's own records for tasks that are not ours."""

    desc = "receipts of flyte_build"

    def __init__(self, name: str, codec: Any, **options: Any) -> None:
        self._changed = False
        try:
            super().__init__(name, codec, **options)
        except DatabaseException:
            self._db: Any = {}
        if not isinstance(self._db, dict) or not all(isinstance(record, dict) for record in self._db.values()):
            self._db = {}  # it holds nothing that cannot be found again

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        from flyte_build import graph

        if graph.step_of(task_id) is None or dependency == "ignore:":
            self._changed = True
            super().set(task_id, dependency, value)

    def remove(self, task_id: str) -> None:
        from flyte_build import graph

        with graph.ended_by_failure():
            graph.forget(task_id)
        self._changed = self._changed or self.in_(task_id)
        super().remove(task_id)

    def remove_all(self) -> None:
        from flyte_build import graph

        with graph.ended_by_failure():
            graph.forget_all()
        self._changed = True
        super().remove_all()

    def dump(self) -> None:
        """Called when a command ends. Writes only what changed, whole or not at all."""
        from flyte_build import graph
        from flyte_build.command_line import project
        from flyte_build.state.folder import write_atomically

        project().index.save()
        if self._changed:
            with graph.ended_by_failure():
                project().state.create()
                write_atomically(Path(self.name), self.codec.encode(self._db).encode())
