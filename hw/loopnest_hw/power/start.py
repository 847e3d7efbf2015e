"""The values that a netlist's logic starts from, from those recorded of the design."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .netlist import ONE, Cells, Netlist, split_bit
from .replay import (
    Level,
    Words,
    clocked,
    data_words,
    enables,
    evaluate,
    pack,
    start_nets,
    state_words,
)

Find = Callable[[str, str, int], Words | None]
"""Takes a unit's path, a signal's name and a bit; returns the bit's value in each cycle."""

ROUNDS = 10
"""Rounds in which values that were not recorded must follow from those that were."""


@dataclass(frozen=True)
class Started:
    """The values of all nets, and of how many start nets they were not recorded."""

    values: Words
    inferred: int


def start(netlist: Netlist, order: list[Level], find: Find, words: int) -> Started:
    """Return all nets' values.

    A flip-flop whose signal was not recorded gets the values that its data imply, round by round.

    Raises
    ------
    ValueError
        If an input or a memory's output was not recorded; the message names it.
    """
    values = np.zeros((netlist.nets, words), np.uint64)
    known = np.zeros(netlist.nets, bool)
    known[: ONE + 1] = True
    for net, names in netlist.names.items():
        found = _look_up(netlist, names, find)
        if found is not None:
            values[net], known[net] = found, True
    unknown = _complete(netlist, values, known)
    edges: set[int] = set()
    for cells in netlist.cells:
        if cells.kind.clock:
            edges.update(cells.pins[cells.kind.clock].tolist())
            if cells.kind.is_gate:
                known[cells.pins[next(iter(cells.kind.outputs))]] = True
    known[list(edges)] = True
    starts = start_nets(netlist)
    state = np.zeros(netlist.nets, bool)
    for index in unknown:
        cells = netlist.cells[index]
        for pin in cells.kind.outputs:
            state[cells.pins[pin][unknown[index]]] = True
    missing = starts[~known[starts] & ~state[starts]]
    if len(missing):
        some = ", ".join(_text(netlist, int(net)) for net in missing[:5])
        raise ValueError(f"{len(missing)} values were not recorded, such as {some}")
    evaluate(netlist, order, values)
    inferred = sum(len(places) for places in unknown.values())
    if inferred:
        _infer(netlist, order, values, unknown)
    return Started(values, inferred)


def _look_up(netlist: Netlist, names: list[tuple[int, str]], find: Find) -> Words | None:
    for unit, name in names:
        for signal, bit in ((name, 0), split_bit(name)):
            found = find(netlist.units[unit], signal, bit)
            if found is not None:
                return found
    return None


def _text(netlist: Netlist, net: int) -> str:
    unit, name = netlist.names.get(net, [(0, f"net {net}")])[0]
    return f"{netlist.units[unit]}/{name}"


def _complete(netlist: Netlist, values: Words, known: np.ndarray) -> dict[int, np.ndarray]:
    """Give flip-flops' outputs without a name the values of the other output.

    Returns, by the number of the cells' kind, the flip-flops of which neither has one.
    """
    unknown = {}
    for index, cells in enumerate(netlist.cells):
        if not cells.kind.is_flip_flop:
            continue
        state, inverse = cells.kind.state
        outputs = cells.kind.outputs
        has = {pin: known[cells.pins[pin]] for pin in outputs}
        for pin, function in outputs.items():
            for other, other_function in outputs.items():
                places = np.nonzero(has[other] & ~has[pin])[0]
                flip = {function, other_function} == {state, inverse}
                source = values[cells.pins[other][places]]
                values[cells.pins[pin][places]] = ~source if flip else source
                known[cells.pins[pin][places]] = True
        none = ~np.any(list(has.values()), axis=0)
        if none.any():
            unknown[index] = np.nonzero(none)[0]
    return unknown


def _infer(
    netlist: Netlist, order: list[Level], values: Words, unknown: dict[int, np.ndarray]
) -> None:
    """Set the flip-flops that were not recorded from their data, until nothing changes."""
    for _ in range(ROUNDS):
        changed = False
        edges, _ = enables(netlist, values)
        for index, places in unknown.items():
            cells = netlist.cells[index]
            part = type(cells)(
                cells.kind, {p: n[places] for p, n in cells.pins.items()}, cells.unit[places]
            )
            outputs = part.kind.outputs.items()
            state, new = state_words(part, values), _held(part, values, clocked(part, edges))
            changed |= bool((new != state).any())
            for pin, function in outputs:
                values[part.pins[pin]] = ~new if function == part.kind.state[1] else new
        if not changed:
            return
        evaluate(netlist, order, values)


def _held(part: Cells, values: Words, clock: Words) -> Words:
    """Return the states of flip-flops: after each clock edge the data before it, held until the
    next. Before the first edge the state is not known, and 0.
    """
    bits = [
        np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        for words in (data_words(part, values), np.ascontiguousarray(clock))
    ]
    cycles = np.arange(bits[0].shape[1])
    last = np.maximum.accumulate(np.where(bits[1] == 1, cycles, -1), axis=1)
    loaded = np.take_along_axis(bits[0], np.maximum(last, 0), axis=1) & (last >= 0)
    state = np.zeros_like(loaded)
    state[:, 1:] = loaded[:, :-1]
    return pack(state)
