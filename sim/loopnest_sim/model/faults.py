"""The errors that the chip may report for a run.

The chip ends at the first error that it detects; which of several is first depends on timing. So
the model continues after an error, and collects all of them.
"""

from typing import Any

from loopnest_hw.registers import ErrorCode

Fault = tuple[ErrorCode, int]
"""An error code and its ``where``."""


class ModelError(Exception):
    """The chip would stop with an error.

    Attributes
    ----------
    code : ErrorCode
    where : int
        As defined for each code in `registers.ErrorCode`.
    needed : int
        Values of the compressed result, if its region was too small.
    """

    def __init__(self, code: ErrorCode, where: int, needed: int = 0) -> None:
        super().__init__(f"{code.name} at {where}")
        self.code = code
        self.where = where
        self.needed = needed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.where, self.needed)


class TooMuchWorkError(Exception):
    """A run takes more work than allowed."""


class Faults:
    """The errors of one run, in the order in which they were found.

    Parameters
    ----------
    max_work : int, optional
        Maximum number of tokens, blocks and lanes that the model processes.

    Attributes
    ----------
    found : list of (ErrorCode, int)
        Each once.
    work : int
        Tokens, blocks and lanes so far.
    needed : int
        Values of the compressed result, including those that did not fit.
    """

    def __init__(self, max_work: int | None = None) -> None:
        self.found: list[Fault] = []
        self.work = 0
        self.needed = 0
        self._max_work = max_work

    def add(self, code: ErrorCode, where: int) -> None:
        """Record an error, once."""
        if (code, where) not in self.found:
            self.found.append((code, where))

    def worked(self, amount: int) -> None:
        """Count work.

        Raises
        ------
        TooMuchWorkError
            If it exceeds the maximum.
        """
        self.work += amount
        if self._max_work is not None and self.work > self._max_work:
            raise TooMuchWorkError

    def raise_first(self) -> None:
        """Raise the first error as a `ModelError`, if there is one."""
        if self.found:
            raise ModelError(*self.found[0], self.needed)
