"""Files of models that packages carry (``make models``)."""

from importlib.util import find_spec
from pathlib import Path


def find_file(package: str, file: str, project: str) -> Path:
    """Return the path of a file in an installed package, which is not imported.

    Parameters
    ----------
    package, project : str
        Its name in Python, and as it is installed.

    Raises
    ------
    FileNotFoundError
        If it is not installed; the message says how to get it.
    """
    spec = find_spec(package)
    path = Path(spec.origin).parent / file if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"{file} of {project} is not installed: make models")
    return path
