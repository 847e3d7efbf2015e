"""Random inputs of known activity for a unit, and the registers that follow from them."""

import numpy as np

from loopnest_hw.power.mapping import Mapped
from loopnest_hw.power.replay import Words, pack
from loopnest_hw.power.start import start


def toggling(bits: int, cycles: int, activity: float, generator: np.random.Generator) -> np.ndarray:
    """Return signals that are one half of the time and toggle with this probability in a cycle."""
    toggles = generator.random((bits, cycles)) < activity
    toggles[:, 0] = generator.random(bits) < 0.5
    found: np.ndarray = np.bitwise_xor.accumulate(toggles, axis=1)
    return found.astype(np.uint8)


def replayed(mapped: Mapped, inputs: dict[str, Words], words: int) -> Words:
    """Return the values of all nets of a unit whose registers follow from its inputs, by name, in a
    few cycles.
    """

    def find(unit: str, name: str, bit: int) -> Words | None:
        port = f"{name}[{bit}]"
        return None if unit else inputs.get(name if bit == 0 and name in inputs else port)

    return start(mapped.netlist, mapped.order, find, words).values


def random_inputs(mapped: Mapped, cycles: int, activity: float, seed: int = 1) -> dict[str, Words]:
    """Return words of all inputs but the clock; the reset is 0."""
    names = [name for name in mapped.netlist.inputs if name not in ("clk", "rst")]
    bits = toggling(len(names), cycles, activity, np.random.default_rng(seed))
    found = dict(zip(names, pack(bits), strict=True))
    return found | {"rst": np.zeros_like(found[names[0]])}
