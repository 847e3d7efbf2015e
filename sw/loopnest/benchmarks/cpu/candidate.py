"""A way to compute a kernel on the CPU."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Candidate:
    """A kernel by a library, ready to run: what it takes is converted.

    Attributes
    ----------
    library : str
        The library by name, and how where it has several ways.
    run : function
        Computes it as often as its argument says.
    result : function
        Computes it once and returns the result, as a sparse or a dense array.
    parallel : bool
        Whether it can use several threads.
    alone : bool
        Whether it is timed with one thread too: another candidate of the library is not made for
        that.
    """

    library: str
    run: Callable[[int], object]
    result: Callable[[], Any]
    parallel: bool
    alone: bool = True


def called(library: str, function: Callable[[], Any], *, parallel: bool) -> Candidate:
    """Return a candidate that is a function, which returns the result."""

    def run(times: int) -> None:
        for _ in range(times):
            function()

    return Candidate(library, run, function, parallel)


Maker: TypeAlias = Callable[..., list[Candidate]]
"""Makes a library's candidates of a kernel, from `Problem.arrays`."""

Makers: TypeAlias = Mapping[str, Maker]
"""Those of a library, by kernel."""
