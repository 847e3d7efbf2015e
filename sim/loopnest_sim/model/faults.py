"""What is wrong with a run: the errors that the chip may end it with.

The chip ends at the first error that it finds, and in which order it comes upon several depends on
time. So the model goes on after an error, and collects all of them.
"""

from loopnest_hw.registers import ErrorCode

Fault = tuple[ErrorCode, int]
"""An error code and its ``where``."""


class ModelError(Exception):
    """The chip would stop with an error.

    Attributes
    ----------
    code : ErrorCode
    where : int
        As `registers.ErrorCode` says for each.
    needed : int
        Values that the compressed result has, where its room was too small.
    """

    def __init__(self, code: ErrorCode, where: int, needed: int = 0) -> None:
        super().__init__(f"{code.name} at {where}")
        self.code = code
        self.where = where
        self.needed = needed


class TooMuchWorkError(Exception):
    """A run takes more work than the model was allowed."""


class Faults:
    """The errors of one run, in the order in which they were found.

    Parameters
    ----------
    most_work : int, optional
        Tokens, blocks and lanes that the model handles at the most.

    Attributes
    ----------
    found : list of (ErrorCode, int)
        Each once.
    work : int
        Tokens, blocks and lanes so far.
    needed : int
        Values of the compressed result, whether there was room or not.
    """

    def __init__(self, most_work: int | None = None) -> None:
        self.found: list[Fault] = []
        self.work = 0
        self.needed = 0
        self._most_work = most_work

    def add(self, code: ErrorCode, where: int) -> None:
        """Note an error."""
        if (code, where) not in self.found:
            self.found.append((code, where))

    def worked(self, amount: int) -> None:
        """Count work.

        Raises
        ------
        TooMuchWorkError
            If it is more than was allowed.
        """
        self.work += amount
        if self._most_work is not None and self.work > self._most_work:
            raise TooMuchWorkError

    def raise_first(self) -> None:
        """Raise the first error as a `ModelError`, if there is one."""
        if self.found:
            raise ModelError(*self.found[0], self.needed)
