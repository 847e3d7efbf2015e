"""The CPU's libraries that are installed, and those that are not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from threadpoolctl import threadpool_limits

from .candidate import Candidate
from .problems import Problem

NEEDED = {
    "by_scipy": ("scipy",),
    "by_mkl": ("mkl", "sparse_dot_mkl"),
    "by_numba": ("numba",),
    "by_torch": ("torch",),
}
"""The packages that each module of candidates needs."""

EXTRAS = {"mkl": "cpu", "sparse_dot_mkl": "cpu", "numba": "cpu", "torch": "torch"}
"""The extras of Loopnest that install them."""


@dataclass(frozen=True)
class Libraries:
    """The modules of what is installed, and the packages that are missing."""

    modules: tuple[ModuleType, ...]
    missing: tuple[str, ...]

    def candidates(self, problem: Problem) -> list[Candidate]:
        """Return all ways to compute a kernel."""
        return [
            candidate
            for module in self.modules
            if problem.kernel in module.MAKERS
            for candidate in module.MAKERS[problem.kernel](*problem.arrays)
        ]

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Limit all libraries to so many threads while the block runs."""
        with threadpool_limits(count):
            for module in self.modules:
                module.set_threads(count)
            yield

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages, of those that are installed."""
        packages = ["numpy", *(name for names in NEEDED.values() for name in names)]
        return {name: version(name) for name in packages if is_installed(name)}

    def note(self) -> str:
        """Return which candidates are missing, and how to install them; empty if none is."""
        if not self.missing:
            return ""
        extras = ",".join(dict.fromkeys(EXTRAS[name] for name in self.missing))
        names = ", ".join(self.missing)
        return f"not compared, since not installed: {names} (pip install 'loopnest[{extras}]')"


def find_libraries() -> Libraries:
    """Import what is installed."""
    missing = tuple(name for names in NEEDED.values() for name in names if not is_installed(name))
    modules = (
        import_module(f".{module}", __package__)
        for module, names in NEEDED.items()
        if not set(names) & set(missing)
    )
    return Libraries(tuple(modules), missing)


def is_installed(package: str) -> bool:
    """Return whether a package is installed; `mkl` has no module."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return package == "mkl" or find_spec(package) is not None
