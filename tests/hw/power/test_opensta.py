"""The replay's power equals OpenSTA's where OpenSTA knows the activities: no gate has two inputs
that depend on each other or often change at once.
"""

import re
import shutil
from pathlib import Path

import pytest
from amaranth.lib import wiring

from loopnest_hw.power.loads import INPUT_SLEW_NS
from loopnest_hw.timing import find_sta
from loopnest_hw.yosys import run
from tests.hw.power.cells import library
from tests.hw.power.drive import random_inputs, replayed
from tests.hw.power.units import Pipeline, Trees, map_unit

CYCLES = 1 << 16
PERIOD_NS = 2.0

pytestmark = pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA is not installed")


def opensta(folder: Path, activity: float) -> float:
    """Return the power of a mapped unit in watts, with this activity of its inputs.

    OpenSTA 2.0.17 adds the internal energies of a rise and of a fall for each transition, where its
    later versions take the mean: half of that is counted here.
    """
    commands = [
        "read_liberty cells.lib",
        "read_verilog netlist.v",
        "link_design unit",
        f"create_clock -name clk -period {PERIOD_NS} [get_ports clk]",
        "set_input_delay 0 -clock clk [all_inputs]",
        f"set_input_transition {INPUT_SLEW_NS} [all_inputs]",
        f"set_power_activity -input -activity {activity} -duty 0.5",
        "set_power_activity -input_port rst -activity 0 -duty 0",
        "report_power -digits 6",
    ]
    (folder / "power.tcl").write_text("\n".join(commands) + "\n")
    text = run([find_sta(), "-no_splash", "-exit", "power.tcl"], folder)
    total = re.search(r"^Total\s+(\S+)\s+(\S+)\s+(\S+)", text, re.MULTILINE)
    assert total is not None, text
    internal, switching, leakage = map(float, total.groups())
    return internal / 2 + switching + leakage


@pytest.mark.parametrize(("unit", "activity"), [(Pipeline(), 0.5), (Trees(), 0.05)])
def test_power(unit: wiring.Component, activity: float, tmp_path: Path) -> None:
    mapped = map_unit(unit, library(), tmp_path)
    inputs = random_inputs(mapped, CYCLES, activity)
    values = replayed(mapped, inputs, CYCLES // 64)
    window = mapped.analysis.energy(values, CYCLES - 1, PERIOD_NS)
    # OpenSTA counts no wire and no pin of the clock
    nets = mapped.netlist.cells
    (flip_flops,) = (cells for cells in nets if cells.kind.is_flip_flop)
    loads, clock = mapped.analysis.loads, flip_flops.pins["CK"]
    pins = loads.wire[clock[:1]] + len(clock) * flip_flops.kind.inputs["CK"]
    clock_loads = float(pins[0]) * mapped.library.voltage**2 * (CYCLES - 1)
    power = (window.total() - clock_loads) / ((CYCLES - 1) * PERIOD_NS * 1e-9)
    expected = opensta(tmp_path, activity)
    print(f"{power * 1e6:.3f} uW, OpenSTA {expected * 1e6:.3f} uW")
    assert abs(power / expected - 1) < 0.02
