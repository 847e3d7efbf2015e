"""Replays a netlist: from the values that its logic starts from, the value of every net.

All cycles are computed at once, as bits of words. There is no time within a cycle, so there are no
glitches: a net changes at most once a cycle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .boolean import compile_expression
from .cells import Cell
from .netlist import ONE, ZERO, Cells, Netlist, Nets

Words = NDArray[np.uint64]

WORD_BITS = 64
ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class Level:
    """Cells of a kind whose inputs are all known once the levels before have been computed."""

    kind: Cell
    pins: dict[str, Nets]


def start_nets(netlist: Netlist) -> NDArray[np.int64]:
    """Return the nets whose values are given: inputs, and outputs of flip-flops and memories.

    Clocks are among them; their values have no meaning.
    """
    nets = [np.concatenate([np.zeros(0, np.int64), *netlist.inputs.values()])]
    nets += [memory.ports["RD_DATA"] for memory in netlist.memories]
    for cells in netlist.cells:
        if cells.kind.clock:
            nets += [cells.pins[pin] for pin in cells.kind.outputs]
    return np.unique(np.concatenate(nets))


def levels(netlist: Netlist) -> list[Level]:
    """Return the combinational cells in an order of evaluation.

    Raises
    ------
    ValueError
        If there is a loop.
    """
    logic = [cells for cells in netlist.cells if not cells.kind.clock and cells.kind.outputs]
    driven = np.zeros(netlist.nets, bool)
    for cells in logic:
        for pin in cells.kind.outputs:
            driven[cells.pins[pin]] = True
    depth = np.where(driven, -1, 0)
    waiting = [(cells, np.arange(len(cells.unit))) for cells in logic]
    found: list[Level] = []
    while waiting:
        ready, left = [], []
        for cells, places in waiting:
            known = np.ones(len(places), bool)
            for pin in cells.kind.inputs:
                known &= depth[cells.pins[pin][places]] >= 0
            if known.any():
                ready.append((cells, places[known]))
            if not known.all():
                left.append((cells, places[~known]))
        if not ready:
            raise ValueError("the netlist has a loop of logic")
        for cells, places in ready:
            pins = {pin: nets[places] for pin, nets in cells.pins.items()}
            found.append(Level(cells.kind, pins))
            for pin in cells.kind.outputs:
                depth[pins[pin]] = 1
        waiting = left
    return found


def evaluate(netlist: Netlist, order: list[Level], values: Words) -> None:
    """Compute the nets in ``values`` (nets x words), which has those of `start_nets`."""
    values[ZERO], values[ONE] = 0, ALL
    for level in order:
        pins = {pin: values[level.pins[pin]] for pin in level.kind.inputs}
        pins |= {"0": values[ZERO], "1": values[ONE]}
        for pin, function in level.kind.outputs.items():
            values[level.pins[pin]] = compile_expression(function)[0](pins)


def next_cycle(values: Words) -> Words:
    """Return the values of the next cycle; in the last one the same as in the last."""
    shifted = values >> np.uint64(1)
    shifted[:, :-1] |= values[:, 1:] << np.uint64(WORD_BITS - 1)
    top = np.uint64(1 << (WORD_BITS - 1))
    shifted[:, -1] |= values[:, -1] & top
    return shifted


def enables(netlist: Netlist, values: Words) -> tuple[dict[int, Words], int]:
    """Return for each clock's net the cycles at whose end its edge comes, and the clock's own net.

    Raises
    ------
    ValueError
        If clocks are not gates behind one net.
    """
    gates = {}
    clocks: set[int] = set()
    for cells in netlist.cells:
        if cells.kind.clock:
            clocks.update(np.unique(cells.pins[cells.kind.clock]).tolist())
        if cells.kind.is_gate:
            (output,) = cells.kind.outputs
            for out, clock, enable in zip(
                cells.pins[output].tolist(),
                cells.pins[cells.kind.clock].tolist(),
                cells.pins[cells.kind.data].tolist(),
                strict=True,
            ):
                gates[out] = clock, enable
    roots = clocks - gates.keys()
    if len(roots) > 1:
        raise ValueError(f"{len(roots)} clocks: expected a single one")
    found: dict[int, Words] = {}

    def visit(net: int) -> Words:
        if net not in gates:
            return np.full(values.shape[1], ALL)
        clock, enable = gates[net]
        known: Words = visit(clock) & values[enable]
        return known

    for net in clocks | gates.keys():
        found[net] = visit(net)
    return found, next(iter(roots), -1)


def clocked(cells: Cells, edges: Mapping[int, Words]) -> Words:
    """Return the cycles at whose end each cell's clock has an edge; shape (cells, words)."""
    nets, places = np.unique(cells.pins[cells.kind.clock], return_inverse=True)
    return np.stack([edges[int(net)] for net in nets])[places]


def state_words(cells: Cells, values: Words) -> Words:
    """Return the state of flip-flops from the values of their outputs."""
    state, inverse = cells.kind.state
    for pin, function in cells.kind.outputs.items():
        if function in (state, inverse):
            found = values[cells.pins[pin]]
            return ~found if function == inverse else found
    raise ValueError(f"{cells.kind.name}: expected an output that is its state")


def data_words(cells: Cells, values: Words) -> Words:
    """Return the data of flip-flops: their next state if the clock has an edge."""
    function, _ = compile_expression(cells.kind.data)
    pins = {pin: values[cells.pins[pin]] for pin in cells.kind.inputs}
    found: Words = function(pins)
    return found


def mismatches(netlist: Netlist, values: Words, cycles: int) -> Iterator[tuple[int, int]]:
    """Yield the net and the number of cycles of each flip-flop whose next state is not its data.

    The replay is right if there is none: what was recorded of one cycle follows from what was
    recorded of the cycle before.
    """
    edges, _ = enables(netlist, values)
    mask = cycle_mask(cycles - 1, values.shape[1])
    for cells in netlist.cells:
        if cells.kind.is_flip_flop:
            state, data = state_words(cells, values), data_words(cells, values)
            clocks = clocked(cells, edges)
            wrong = (next_cycle(state) ^ (clocks & data | ~clocks & state)) & mask
            counts = np.bitwise_count(wrong).sum(axis=1)
            output = next(iter(cells.kind.outputs))
            for place in np.nonzero(counts)[0]:
                yield int(cells.pins[output][place]), int(counts[place])


def cycle_mask(cycles: int, words: int) -> Words:
    """Return words with ones in the first cycles."""
    bits = np.zeros(words * WORD_BITS, np.uint8)
    bits[:cycles] = 1
    return pack(bits[None])[0]


def pack(bits: NDArray[np.uint8]) -> Words:
    """Return rows of bits as words, from the low bit; the number of bits a multiple of 64."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    words: Words = np.ascontiguousarray(packed).view("<u8")
    return words
