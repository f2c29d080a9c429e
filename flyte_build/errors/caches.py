"""Errors: the shared cache. A deploy goes on without it, so most of these are shown as warnings."""

from __future__ import annotations

from flyte_build.errors.base import StepError


class CacheUnavailable(StepError):
    """The shared cache cannot be used. `reason` is what it answered, or that it did not, without anything secret."""

    url: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("cache", "url")
        return f"{self.url}: the shared cache cannot be used: {self.reason}; check {where} and the access to it"


class CacheGivenUp(StepError):
    """Something failed on this machine while the shared cache was used. `reason` is what that says."""

    url: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.url}: the run goes on without the shared cache, since something failed here: {self.reason}"


class CacheEntryDamaged(StepError):
    """An object of the shared cache is not what was written under its name."""

    url: str
    name: str
    removed: bool

    @property
    def message(self) -> str:
        done = "it was removed and its work is done again" if self.removed else "it is left there and not used"
        return f"{self.url}/{self.name}: the object was damaged; {done}"


class CacheNotNamed(StepError):
    """`doit cache` where there is none."""

    file: str

    @property
    def message(self) -> str:
        return f'{self.file}: names no shared cache; write `url = "s3://BUCKET/PREFIX"` into [cache]'


class CacheReadOnly(StepError):
    """Pruning was asked of a cache that may only be read."""

    file: str

    @property
    def message(self) -> str:
        where = self.written("cache", "read_only")
        return f"{self.file}: {where} is read_only, so nothing is pruned; run this where it is not"
