"""State of a chip that is shared by threads and forked processes: its backend, and the last
report.
"""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakSet

from .backends import Backend

T = TypeVar("T")


class SharedBackend:
    """A backend that runs one kernel at a time; other threads wait for their turn.

    A forked process makes its own backend when it needs one, since another thread may have been in
    the middle of a run.

    Parameters
    ----------
    make : callable
        Returns the backend.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._running = False
        self._closed = False
        self._backend: Backend | None = make()
        _SHARED.add(self)

    def run(self, work: Callable[[Backend], T]) -> T:
        """Call ``work`` with exclusive access to the backend; return its result.

        Raises
        ------
        RuntimeError
            If called from inside ``work``: the running kernel would be overwritten.
        ValueError
            If it is closed.
        """
        with self._lock:
            self._check_idle()
            self._running = True
            try:
                return work(self.backend)
            finally:
                self._running = False

    def close(self) -> None:
        """Close the backend, after a run of another thread; RuntimeError from inside ``work``."""
        with self._lock:
            self._check_idle()
            self._closed = True
            # an interrupt must not lead to closing it twice
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    @property
    def backend(self) -> Backend:
        """The backend of this process; ValueError if it is closed."""
        self.check_open()
        if self._backend is None:
            self._backend = self._make()
        return self._backend

    def check_open(self) -> None:
        """Raise ValueError if it is closed."""
        if self._closed:
            raise ValueError("the chip is closed: expected a new one")

    def _check_idle(self) -> None:
        if self._running:
            raise RuntimeError(
                "the chip is in the middle of a run, which called this (from a progress "
                "function or a signal handler): expected it after the run, or on another chip"
            )

    def _leave(self) -> None:
        """Leave the backend, and the lock even if it is held, to the process that forked."""
        self._lock = threading.RLock()
        self._running = False
        self._backend = None


class Latest(Generic[T]):
    """A value for each thread, such as the report of its last run."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._of_any: T | None = None

    @property
    def value(self) -> T | None:
        """The value that this thread has set or, if it has set none, the last one of any thread."""
        found: T | None = getattr(self._of_thread, "value", self._of_any)
        return found

    @value.setter
    def value(self, value: T | None) -> None:
        self._of_thread.value = self._of_any = value


_SHARED: WeakSet[SharedBackend] = WeakSet()


def _leave_all() -> None:
    for shared in list(_SHARED):
        shared._leave()


os.register_at_fork(after_in_child=_leave_all)
