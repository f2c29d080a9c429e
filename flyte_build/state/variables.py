"""The environment variables that code sees while it loads, besides a target's `pass_env`."""

from __future__ import annotations

BASE_VARIABLES = (
    *("HOME", "LOGNAME", "PATH", "PYTHONPATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    *("SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USER", "VIRTUAL_ENV"),
)
"""What Python itself needs."""
HASH_SEED, OTHER_HASH_SEED = "0", "1"
"""Of every load, and of the one that `doit check` compares it with."""
FIXED_VARIABLES = {
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": HASH_SEED,
    "PYTHONUNBUFFERED": "1",
    "TZ": "UTC",
}
"""Set in the discovery process, so that text, time and the order of a set are the same in every run, everywhere."""
