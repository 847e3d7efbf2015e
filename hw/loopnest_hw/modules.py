"""Merges equal modules of a Verilog text.

Amaranth writes a module for each instance. Here, modules with equal contents are written once and
instantiated under the name of the first one: the text is shorter, and tools compile each module
once.
"""

import re

MODULE = re.compile(r"^module (\S+?) ?\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  (\S+) +(\S+) +\($", re.MULTILINE)
NUMBERED = re.compile(r"\b_\d+_\b|\\\$auto\$\S+\$\d+(?= )")
"""Names that the Verilog writer numbers consecutively over all modules."""


def share_modules(verilog: str, top: str) -> str:
    """Return the text with one module for all that differ only in their names.

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
        """Return the name of the module that replaces this one."""
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
