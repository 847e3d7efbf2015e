"""Designs with several instances of a module that is compiled by itself, and two memory ports."""

import os
import signal
import time
from functools import cache
from typing import Any

import numpy as np
import pytest

from loopnest_hw.generate import to_verilog
from loopnest_sim.build import BuildError
from loopnest_sim.memory import Memory
from loopnest_sim.modules import memory_ports, shared_module
from loopnest_sim.simulator import Simulator
from loopnest_sim.sockets import split
from tests.sim.copier import LINES, SCRATCH, SOURCE, START, TARGET, Copier, TwoPorts

FROM, TO, COUNT = 0x1000, 0x9000, 300


@cache
def design(shared: bool) -> str:
    return to_verilog(Copier(shared=shared), "copier")


def copy(sim: Simulator) -> int:
    """Copy lines and return the cycles."""
    sim.write(FROM, np.random.default_rng(1).integers(0, 256, 32 * COUNT, dtype=np.uint8))
    for offset, value in ((SOURCE, FROM), (TARGET, TO), (LINES, COUNT), (START, 1)):
        sim.set_register(offset, value)
    return sim.run_until_interrupt(100_000)


@pytest.mark.parametrize(
    "behaviour",
    [{}, {"latency": 1, "stall": 0.5}, {"reorder": True, "stall": 0.2}, {"bytes_per_cycle": 5}],
)
def test_instances_of_a_shared_module(behaviour: dict[str, Any]) -> None:
    """Nothing tells a module that is compiled by itself from one that is part of the design."""
    found = []
    for shared, threads in ((False, 1), (True, 1), (True, 3)):
        memory = Memory(**behaviour)
        with Simulator(design(shared), top="copier", memory=memory, threads=threads) as sim:
            cycles = copy(sim)
            again = copy(sim)
            sim.reset()
            content = sim.read(TO, 32 * COUNT)
            found.append((cycles, again, copy(sim), content, sim.traffic, sim.register(SCRATCH)))
            found[-1] += (sim.samples.tolist(), sim.violations)
    assert found[0] == found[1] == found[2]


def test_several_simulations_end_in_any_order() -> None:
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        sims = [Simulator(design(True), top="copier") for _ in order]
        cycles = {copy(sim) for sim in sims}
        for number in order:
            sims[number].close()
        assert len(cycles) == 1


def test_a_forked_process() -> None:
    """It has a copy of the simulation, and none of its threads."""
    with Simulator(design(True), top="copier", threads=3) as sim:
        copy(sim)
        expected = copy(sim)
        child = os.fork()
        if not child:
            os._exit(copy(sim) != expected)
        for _ in range(300):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        else:
            os.kill(child, signal.SIGKILL)
        assert ended and status == 0
        assert copy(sim) == expected


def test_two_designs_share_a_module() -> None:
    text = design(True)
    assert shared_module(text, "copier") == "buffer"
    assert shared_module(design(False), "copier") is None
    other = to_verilog(Copier("size", shared=True), "copier")
    assert other != text
    assert split(other, "buffer").module == split(text, "buffer").module
    with pytest.raises(BuildError, match="module other was not found"):
        split(text, "other")


def test_lines_of_the_other_port() -> None:
    text = to_verilog(TwoPorts(), "copier")
    assert (memory_ports(text, "copier"), memory_ports(design(False), "copier")) == (2, 1)
    with Simulator(text, top="copier") as sim:
        copy(sim)
        (found,) = sim.violations
    assert "a line of the other memory port was requested" in found
    assert f"({COUNT} breaches" in found  # every second line of the reads and of the writes
