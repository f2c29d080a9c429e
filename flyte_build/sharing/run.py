"""The shared cache in one run: results are fetched when the first step turns out stale, and published at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import msgspec

from flyte_build.cache.client import Client
from flyte_build.cache.sealed import derived, seal
from flyte_build.errors import CacheEntryDamaged, CacheGivenUp, StepError
from flyte_build.model import Target, Value
from flyte_build.sharing import entries, history
from flyte_build.sharing.entries import Entry, Sealed, Traces
from flyte_build.sharing.install import install, is_fresh, look_again, traces_of
from flyte_build.sharing.pack import pack
from flyte_build.sharing.surroundings import surroundings
from flyte_build.state.receipts import Receipt
from flyte_build.steps import deploy

if TYPE_CHECKING:
    from flyte_build.project import Project

_T = TypeVar("_T", bound=Value)

_NEWEST = 8
"""Questions that are tried for one target, the newest first: more would be those of branches long gone."""


class _Looked(Value, frozen=True):
    """A target whose results are looked for, and what is known of it before anything is read."""

    target: Target
    static: bytes
    place: bytes
    """Empty: the version cannot be told."""

    def entry(self, answers: Traces, *, deployed: bool) -> Sealed:
        if deployed:
            return entries.deployed_object(self.static, answers, self.place)
        return entries.local_object(self.static, answers)


class Sharing:
    """What one run does with the shared cache."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._started = time.time()
        self._client = Client(project.manifest.cache, project.environ)
        self._looked: dict[str, _Looked] = {}
        self._listed: dict[str, list[str]] = {}
        """Folder of questions -> names in it, the newest first."""
        self._there: set[str] = set()
        """Objects that need not be written."""
        self._used: set[str] = set()
        self._reused: dict[str, str] = {}
        """Target -> what was installed of it, and whence."""
        self._found = {True: 0, False: 0}
        """Targets of which everything, or the discovery, was there."""
        self.notes: dict[str, tuple[str, ...]] = {}
        """Target -> what is to be said of the version that another machine has deployed."""
        self._damaged: list[CacheEntryDamaged] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        trouble = (self._client.trouble,) if self._client.trouble else ()
        for error in trouble:
            error.tell_of(self._project.manifest.elsewhere)
        return tuple(error.message for error in (*self._damaged, *trouble))

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """The cache only helps: whatever fails in this block is one more reason to go on without it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 also a bug of ours must not fail a deploy that needs no cache
            reason = error.message if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
            self._client.give_up(CacheGivenUp(url=self._project.manifest.cache.url, reason=reason))

    # --- fetching

    def fetch(self, targets: Iterable[Target]) -> dict[str, str]:
        """Install what others have made of stale targets. Gives target -> what that was, and whence."""
        with self._going_on():
            self._fetch(targets)
        return self._reused

    def _fetch(self, targets: Iterable[Target]) -> None:
        self._project.state.create()
        stale = [target for target in targets if not is_fresh(self._project, target)]
        self._looked = {target.name: self._look(target) for target in stale}
        self._list()
        answers = self._answers()
        self._install(answers, deployed=True)
        self._install({name: each for name, each in answers.items() if name not in self._reused}, deployed=False)

    @cached_property
    def _surroundings(self) -> str:
        return surroundings(self._project)

    def _look(self, target: Target) -> _Looked:
        try:
            place = entries.place_key(self._project, target)
        except StepError:  # the step that needs it tells
            place = b""
        static = entries.static_key(self._project, target, self._surroundings)
        return _Looked(target=target, static=static, place=place)

    def _list(self) -> None:
        items = self._client.items(f"{entries.QUESTIONS}/{self._surroundings}/")
        for item in sorted(items, key=lambda item: (-item.modified, item.name)):
            self._listed.setdefault(item.name.rpartition("/")[0], []).append(item.name)
            self._there.add(item.name)

    def _answers(self) -> dict[str, list[Traces]]:
        """Target -> what its receipts here were made from, and the answers of the world to what earlier runs asked."""
        names = {name: self._newest(looked) for name, looked in self._looked.items()}
        found = self._client.get(name for each in names.values() for name in each)
        answers: dict[str, list[Traces]] = {}
        for target, looked in self._looked.items():
            world = self._project.world(looked.target)
            key = entries.questions_key(looked.static)
            asked = (self._opened(Sealed(name=name, key=key), found, Traces) for name in names[target])
            own = traces_of(self._project, looked.target)
            all_answers = [own, *(questions.answered(world) for questions in asked if questions)]
            answers[target] = list({each.json(): each for each in all_answers if each}.values())
        return answers

    def _newest(self, looked: _Looked) -> list[str]:
        return self._listed.get(entries.questions_folder(self._surroundings, looked.static), [])[:_NEWEST]

    def _install(self, answers: dict[str, list[Traces]], *, deployed: bool) -> None:
        """Install the first entry of each target that fits."""
        wanted = {
            target: [(self._looked[target].entry(each, deployed=deployed), each) for each in found]
            for target, found in answers.items()
        }
        present = self._client.get(sealed.name for found in wanted.values() for sealed, _ in found)
        for target, found in wanted.items():
            for sealed, traces in found:
                entry = self._opened(sealed, present, Entry)
                if entry and install(self._project, self._looked[target].target, entry, traces):
                    what = "" if deployed else "discovery "
                    self._reused[target] = f"{what}from the shared cache: {entry.origin}"
                    self._found[deployed] += 1
                    self._note(self._looked[target].target)
                    # also what a machine will ask for that deploys elsewhere
                    local = self._looked[target].entry(traces, deployed=False)
                    self._used |= {sealed.name, local.name, self._questions(target, traces).name}
                    break

    def _note(self, target: Target) -> None:
        receipt = self._project.receipt(target.name, deploy.NAME)
        result = receipt.read_if_known(deploy.Result) if isinstance(receipt, Receipt) else None
        if result and isinstance(receipt, Receipt):
            self.notes[target.name] = deploy.latest_note(self._project, target, result, receipt.trace)

    def _questions(self, target: str, traces: Traces) -> Sealed:
        return entries.questions_object(self._surroundings, self._looked[target].static, traces.questions())

    def _opened(self, sealed: Sealed, found: Mapping[str, bytes], kind: type[_T]) -> _T | None:
        """What is in an object; None when it is not there. One that was damaged is removed, to be made again."""
        if sealed.name not in found:
            return None
        content = entries.opened(sealed, found[sealed.name], kind)
        if content is not None:
            self._there.add(sealed.name)
            return content
        self._there.discard(sealed.name)
        settings = self._project.manifest.cache
        if not settings.read_only:
            self._client.delete([sealed.name])
        self._damaged.append(CacheEntryDamaged(url=settings.url, name=sealed.name, removed=not settings.read_only))
        return None

    # --- publishing

    def finish(self, targets: Iterable[str]) -> None:
        """Publish these targets, which have been deployed, note what was used, and let go of the cache."""
        written = 0
        with self._going_on():
            written = self._publish(targets)
        history.add(
            self._project,
            history.Run(
                started=self._started,
                looked_up=len(self._looked),
                whole=self._found[True],
                part=self._found[False],
                written=written,
                received=self._client.received,
                sent=self._client.sent,
                trouble=self._client.trouble.reason if self._client.trouble else "",
            ),
        )
        self._client.close()

    def _publish(self, targets: Iterable[str]) -> int:
        """Gives how many objects were sent."""
        if self._project.manifest.cache.read_only or self._client.trouble:
            return 0
        objects: dict[str, bytes] = {}
        for target in self._publishable(targets):
            objects |= self._objects(target)
        self._used |= objects.keys()  # they may have been there
        objects |= self._note_of_use()
        self._client.create(objects)
        return 0 if self._client.trouble else len(objects)

    def _publishable(self, targets: Iterable[str]) -> list[str]:
        """Those that were looked for; none when something was installed meanwhile, which they may have loaded."""
        found = [target for target in targets if target in self._looked]
        return found if found and surroundings(self._project) == self._surroundings else []

    def _objects(self, name: str) -> dict[str, bytes]:
        """The objects of a target that the cache may lack: name -> sealed content."""
        looked = self._looked[name]
        look_again(self._project, name)
        traces = traces_of(self._project, looked.target) if is_fresh(self._project, looked.target) else None
        if traces is None or traces.discover.opaque:
            return {}
        made = [(self._questions(name, traces), msgspec.msgpack.encode(traces.questions()))]
        local, whole = (looked.entry(traces, deployed=deployed) for deployed in (False, True))
        made.append((local, msgspec.msgpack.encode(pack(self._project, looked.target, deployed=False))))
        entry = pack(self._project, looked.target, deployed=True)
        if "upload" in entry.receipts:
            made.append((whole, msgspec.msgpack.encode(entry)))
        return {sealed.name: seal(sealed.key, data) for sealed, data in made if sealed.name not in self._there}

    def _note_of_use(self) -> dict[str, bytes]:
        """An object that names what this run used. The same runs on one day write it once."""
        if not self._used:
            return {}
        names = "\n".join(sorted(self._used)).encode()
        day = time.strftime("%Y-%m-%d", time.gmtime(self._started))
        return {f"{entries.USED}/{day}/{derived('used', names).hex()[:32]}": names}
