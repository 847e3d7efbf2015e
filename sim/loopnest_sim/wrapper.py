"""The module around a simulated design."""

import re

from .build import BuildError

WRAPPER = "loopnest_simulation"
"""Name of the module around the design (`wrap`)."""


def wrap(verilog_text: str, top: str) -> str:
    """Return a module around the top module that registers its inputs, and shows its counters.

    Otherwise Verilator would evaluate all logic that depends on an input (for the reset, nearly the
    whole design) a second time for the change of inputs between two edges.

    The output ``counters`` has the top module's wires ``counters__0`` and so on, from the low end;
    it is 0 if there are none. So a run can be observed without bus transfers.

    Raises
    ------
    BuildError
        If there is no such module, as Yosys writes it, with a clock.
    """
    found = re.search(rf"^module {re.escape(top)}\(.*?^endmodule", verilog_text, re.M | re.S)
    text = found.group(0) if found else ""
    ports = re.findall(
        r"^ *(input|output) (?:wire |reg )?(\[\d+:0\] )?(\w+)( = [^;]+)?;",
        text,
        re.M,
    )
    inputs = [(width, name) for kind, width, name, _ in ports if kind == "input" and name != "clk"]
    if ("input", "", "clk", "") not in ports:
        raise BuildError(f"module {top} with an input clk was not found in the Verilog")
    counters = len(re.findall(r"^ *(?:wire|reg) \[31:0\] counters__\d+\b", text, re.M))
    lines = [f"module {WRAPPER}({', '.join(name for *_, name, _ in ports)}, counters);"]
    lines += [f"  {kind} {width}{name};" for kind, width, name, _ in ports]
    lines += [f"  output [{32 * max(1, counters) - 1}:0] counters;"]
    values = [f"{top}.counters__{n}" for n in reversed(range(counters))] or ["32'd0"]
    lines += [f"  assign counters = {{{', '.join(values)}}};"]
    lines += [f"  reg {width}{name}_now;" for width, name in inputs]
    lines += ["  always @(posedge clk) begin"]
    lines += [f"    {name}_now <= {name};" for _, name in inputs]
    lines += ["  end", f"  {top} {top} ("]
    names = [f"    .{name}({name})" for kind, _, name, _ in ports if kind == "output"]
    names += [f"    .{name}({name}_now)" for _, name in inputs]
    lines += [",\n".join([*names, "    .clk(clk)"]), "  );", "endmodule", ""]
    return "\n".join(lines)
