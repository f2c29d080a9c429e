"""The command `doit dumpdb`, which knows one kind of database and shows a traceback for any other."""

from __future__ import annotations

import dbm
from typing import Any

from doit.cmd_dumpdb import DumpDB
from doit.exceptions import InvalidCommand


class Dump(DumpDB):  # type: ignore[misc]
    """The same, in every project where doit is; it loads no dodo.py, so nobody can tell whose project it is."""

    name = "dumpdb"

    def execute(self, opt_values: Any, pos_args: Any) -> None:
        if not dbm.whichdb(opt_values["dep_file"]):
            mend = "`doit why` and `doit info deploy:NAME` say what is known of the tasks of flyte_build"
            raise InvalidCommand(f"dumpdb: {opt_values['dep_file']} is no database of the kind dbm; {mend}")
        super().execute(opt_values, pos_args)
