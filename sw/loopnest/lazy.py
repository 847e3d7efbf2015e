"""Attributes that are computed at their first access."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801
    """`functools.cached_property` without its lock.

    In Python 3.11 all instances share the lock: a process that is forked while another thread
    computes the attribute would wait for it forever. Two threads may compute it twice.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "lazy[T]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> "lazy[T] | T":
        if instance is None:
            return self
        # this is not a data descriptor, so later accesses find the attribute there
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
