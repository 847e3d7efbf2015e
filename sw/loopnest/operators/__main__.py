"""``python -m loopnest.operators`` prints the table of operators in docs/models.md."""

import re
from inspect import getdoc

from . import OPERATORS


def rows() -> list[str]:
    """Return the table's rows: an operator, where it is computed, and what it computes."""
    found = []
    for name in sorted(OPERATORS, key=lambda name: (not OPERATORS[name].on_chip, name)):
        operator = OPERATORS[name]
        meaning = re.sub(r"\s+", " ", getdoc(operator.reference) or "").replace("``", "`")
        found.append(f"| `{name}` | {'chip' if operator.on_chip else 'host'} | {meaning} |")
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
