"""Every failure that a user can meet, worded in one place.

An error is data: keyword-only fields, and a `message` that says where, what, and what to do. Lower case, values in
backticks, no full stop. Families say whose fault it is:

- `ManifestError`: deploy.toml or the command line is wrong; nothing was started (exit code 3).
- `StepError`: a step failed, because of the project or of what the step called (exit code 1).

Anything else that escapes is a bug of ours (exit code 2, with a traceback).
"""

from __future__ import annotations

from flyte_build.errors.backends import *
from flyte_build.errors.base import *
from flyte_build.errors.builds import *
from flyte_build.errors.bundles import *
from flyte_build.errors.caches import *
from flyte_build.errors.command_line import *
from flyte_build.errors.discovery import *
from flyte_build.errors.images import *
from flyte_build.errors.manifest import *
from flyte_build.errors.project import *
from flyte_build.errors.remote_images import *
from flyte_build.errors.stores import *
