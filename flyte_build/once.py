"""What is worked out once, also where several threads ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_T = TypeVar("_T")


class once(Generic[_T]):  # noqa: N801 it is used as `property` is
    """A property that is made at its first use, by one thread, and kept. (`cached_property` lets each make its own.)"""

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self.__doc__ = make.__doc__
        self._make = make
        self._name = make.__name__
        self._making = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> once[_T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> _T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> once[_T] | _T:
        if instance is None:
            return self
        known = vars(instance)  # found there from then on, without a call of this
        with self._making:
            if self._name not in known:
                known[self._name] = self._make(instance)
        value: _T = known[self._name]
        return value
