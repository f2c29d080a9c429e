"""Errors: stores."""

from __future__ import annotations

from flyte_build.errors.base import StepError, quoted


class StoreUrlInvalid(StepError):
    """`url` of `[store]` names no place that a bundle can be put."""

    url: str
    problem: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        known = ["s3://bucket/prefix", "gs://bucket/prefix", "abfs://container/prefix", "file:///folder", "backend"]
        return f"{where} url: `{self.url}` {self.problem}; write one of {quoted(known)}"


class StoreEndpointInvalid(StepError):
    endpoint_url: str

    @property
    def message(self) -> str:
        where = self.written("store", "endpoint_url")
        return f"{where} endpoint_url: `{self.endpoint_url}` is no address of a server; write `https://host:port`"


class StoreDiskFull(StepError):
    uri: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        return f"{self.uri}: the disk is full; free space there, or set `url` of {where} to another place"


class StoreFolderNotWritable(StepError):
    """`reason` is the operating system's."""

    folder: str
    reason: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        return (
            f"{self.folder}: bundles cannot be written there: {self.reason}; "
            f"let this user write to it, or set `url` of {where} to another place"
        )


class StoreFolderIsAFile(StepError):
    folder: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        return f"{self.folder}: the store's folder is, or is inside, a file; move it, or correct `url` of {where}"


class StoreCredentialsMissing(StepError):
    """`mend` says how credentials are given to this kind of store."""

    uri: str
    reason: str
    mend: str

    @property
    def message(self) -> str:
        return f"{self.uri}: no credentials for the store: {self.reason}; {self.mend}"


class StoreAccessDenied(StepError):
    """`answer` is the store's status, code and explanation, without anything secret."""

    uri: str
    answer: str

    @property
    def message(self) -> str:
        mend = "give the credentials in use the right to read and write there"
        return f"{self.uri}: access denied: {self.answer}; {mend}"


class StoreBucketMissing(StepError):
    uri: str
    bucket: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        return f"{self.uri}: there is no bucket `{self.bucket}`; create it, or correct `url` of {where}"


class StoreRefused(StepError):
    """The store said no for a reason that trying again does not change."""

    uri: str
    answer: str

    @property
    def message(self) -> str:
        where = self.written("store", "url", "endpoint_url", "region")
        mend = f"check `url`, `endpoint_url` and `region` of {where}"
        return f"{self.uri}: the store refused the bundle: {self.answer}; {mend}"


class StoreUnreachable(StepError):
    """No answer came, on any attempt."""

    uri: str
    endpoint: str
    reason: str
    attempts: int

    @property
    def message(self) -> str:
        return (
            f"{self.uri}: no answer from `{self.endpoint}` in {self.attempts} attempts: {self.reason}; "
            "check the network and the address"
        )


class StoreFailing(StepError):
    """The store answered with a failure of its own, on every attempt."""

    uri: str
    answer: str
    attempts: int

    @property
    def message(self) -> str:
        return f"{self.uri}: the store failed {self.attempts} times: {self.answer}; try again later"


class UploadUrlExpired(StepError):
    """The backend's signed URL was out of date, and so was the fresh one."""

    uri: str

    @property
    def message(self) -> str:
        where = self.written("store", "url")
        return (
            f"{self.uri}: the signed URL of the backend expired before the upload was done, twice; "
            f"check the clocks of the backend and of the store, or name a store with `url` of {where}"
        )


class UploadNameTaken(StepError):
    """The backend knows the name of the archive with another MD5."""

    filename: str

    @property
    def message(self) -> str:
        return (
            f"{self.filename}: the backend holds other bytes under this name, so they were changed after an upload; "
            "remove that object from the backend's store and deploy again"
        )
