"""The module around a simulated design."""

import re
from collections.abc import Sequence

from .modules import module_ports, module_text

WRAPPER = "loopnest_simulation"
"""Name of the module around the design (`wrap`)."""


def wrap(verilog_text: str, top: str, events: Sequence[str] = ()) -> str:
    """Return a module around the top module that registers its inputs, and shows its counters.

    Otherwise Verilator would evaluate all logic that depends on an input (for the reset, nearly the
    whole design) a second time for the change of inputs between two edges.

    The output ``counters`` has the top module's wires ``counters__0`` and so on, from the low end;
    it is 0 if there are none. So a run can be observed without bus transfers.

    ``events`` are further inputs, which sockets read (`sockets`).

    Raises
    ------
    BuildError
        If there is no such module, as Yosys writes it, with a clock.
    """
    ports = module_ports(verilog_text, top)
    text = module_text(verilog_text, top)
    inputs = [port for port in ports if port.is_input and port.name != "clk"]
    counters = len(re.findall(r"^ *(?:wire|reg) \[31:0\] counters__\d+\b", text, re.M))
    names = [*(port.name for port in ports), *events]
    lines = [f"module {WRAPPER}({', '.join(names)}, counters);"]
    lines += [f"  {'input' if p.is_input else 'output'} {p.width}{p.name};" for p in ports]
    lines += [f"  input {event};" for event in events]
    lines += [f"  output [{32 * max(1, counters) - 1}:0] counters;"]
    values = [f"{top}.counters__{n}" for n in reversed(range(counters))] or ["32'd0"]
    lines += [f"  assign counters = {{{', '.join(values)}}};"]
    lines += [f"  reg {port.width}{port.name}_now;" for port in inputs]
    lines += ["  always @(posedge clk) begin"]
    lines += [f"    {port.name}_now <= {port.name};" for port in inputs]
    lines += ["  end", f"  {top} {top} ("]
    connections = [f"    .{port.name}({port.name})" for port in ports if not port.is_input]
    connections += [f"    .{port.name}({port.name}_now)" for port in inputs]
    lines += [",\n".join([*connections, "    .clk(clk)"]), "  );", "endmodule", ""]
    return "\n".join(lines)
