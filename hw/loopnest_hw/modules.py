"""Verilog in which equal modules are one.

Amaranth writes a module for each instance. Those that say the same are written once here and
instantiated under the name of the first: the text reads better, and a tool compiles them once.
"""

import re

MODULE = re.compile(r"^module (\S+?) ?\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  (\S+) +(\S+) +\($", re.MULTILINE)
NUMBERED = re.compile(r"\b_\d+_\b|\\\$auto\$\S+\$\d+(?= )")
"""Names that the Verilog writer numbers through all modules."""


def share_modules(verilog: str, top: str) -> str:
    """Return the text with one module for all that differ in nothing but their names.

    Raises
    ------
    ValueError
        If it has no module ``top``.
    """
    found = {match[1]: match[0] for match in MODULE.finditer(verilog)}
    if top not in found:
        raise ValueError(f"top {top!r}: no such module")
    shared: dict[str, str] = {}
    name_of: dict[str, str] = {}
    name_of_body: dict[str, str] = {}

    def share(name: str) -> str:
        """Return the name of the module that stands for this one."""
        if name not in name_of:
            numbers: dict[str, str] = {}
            text = INSTANCE.sub(
                lambda m: f"  {share(m[1])} {m[2]} (" if m[1] in found else m[0], found[name]
            )
            text = NUMBERED.sub(lambda m: numbers.setdefault(m[0], f"_{len(numbers)}_"), text)
            body = text.partition("(")[2]
            name_of[name] = name_of_body.setdefault(body, name)
            if name_of[name] == name:
                shared[name] = text
        return name_of[name]

    share(top)
    head = verilog[: verilog.index("module ")]
    return head + "\n".join(text for name in found if (text := shared.get(name)))
