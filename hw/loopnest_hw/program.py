"""Ends a command-line program cleanly on Ctrl-C or when its output pipe is closed."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from signal import SIGINT, SIGPIPE
from typing import TypeAlias

BY_SIGNAL = 128
"""A shell's exit code of a program that a signal ended, less the signal's number."""

Main: TypeAlias = Callable[[Sequence[str] | None], int]


def program(main: Main) -> Callable[..., int]:
    """Return a program's main function that ends quietly.

    Ctrl-C: one line, and exit code 130. A closed pipe, as of ``program | head``: nothing, and 141.
    """

    @wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            try:
                return main(arguments)
            finally:
                # here, not at the interpreter's end, where nothing can be done about it
                sys.stdout.flush()
        except KeyboardInterrupt:
            with suppress(BrokenPipeError):
                print("interrupted", file=sys.stderr)
            return BY_SIGNAL + SIGINT
        except BrokenPipeError:
            return _drop_output()
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # Rich makes it exit code 1
                return _drop_output()
            raise

    return run


def _drop_output() -> int:
    """Let what is still buffered go nowhere, and return the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return BY_SIGNAL + SIGPIPE
