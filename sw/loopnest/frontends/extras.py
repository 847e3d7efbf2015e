"""Packages that are no dependency of the base install."""

from importlib import import_module
from typing import Any


def require(package: str, extra: str) -> Any:
    """Return a package's module.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message says which extra of Loopnest installs it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'loopnest[{extra}]'", name=error.name
        ) from None
