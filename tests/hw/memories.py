"""The memories in the text of a chip."""

import re
from collections import Counter
from functools import cache


def memories(verilog: str, top: str) -> Counter[tuple[str, int, int]]:
    """Return how many memories there are, by the unit, the words and the bits of a word.

    A unit that has several equal instances goes by the first one's path.
    """
    modules = {
        match[1]: match[0]
        for match in re.finditer(r"^module (\S+?) ?\(.*?^endmodule", verilog, re.M | re.S)
    }
    children = {
        name: Counter(
            kind for kind in re.findall(r"^  (\S+) +\S+ +\($", text, re.M) if kind in modules
        )
        for name, text in modules.items()
    }

    @cache
    def instances(name: str) -> int:
        if name == top:
            return 1
        return sum(
            instances(parent) * found[name] for parent, found in children.items() if name in found
        )

    found: Counter[tuple[str, int, int]] = Counter()
    for name, text in modules.items():
        unit = re.sub(r"\$\d+", "", name.removeprefix(f"\\{top}."))
        for bits, words in re.findall(r"^  reg (?:\[(\d+):0\] )?\S+ *\[(\d+):0\];", text, re.M):
            found[unit, int(words) + 1, int(bits or 0) + 1] += instances(name)
    return found
