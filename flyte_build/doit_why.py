"""The command `doit why`. doit imports it when it is asked for, or shows what commands there are."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase


class Why(DoitCmdBase):  # type: ignore[misc]
    """Asks nothing of doit's database, and closes it without writing: looking leaves no trace."""

    name = "why"
    doc_purpose = "say why steps will run, or why not"
    doc_usage = "[STEP:TARGET ...]"
    doc_description = (
        "Steps are named as tasks are: `deploy:fraud`, `deploy:services/*`, or `deploy` for every target.\n"
        "Without a name: `deploy`. Nothing is run, and nothing is written."
    )
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> None:
        from flyte_build import graph

        graph.tell_why(pos_args or ["deploy"])
