"""Imported first by `loopnest`: an interrupt while ``python -m loopnest...`` imports the rest
prints one line. The program itself handles interrupts once it runs.
"""

import sys
from types import TracebackType

_show = sys.excepthook


def _interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        _show(kind, error, trace)


# until the module that -m names is found, argv[0] is "-m"; the name may follow without a space
_names = (word.rpartition("-m")[2].split(".")[0] for word in sys.orig_argv)
if sys.argv[:1] == ["-m"] and "loopnest" in _names:
    sys.excepthook = _interrupted
