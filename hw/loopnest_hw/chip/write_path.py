"""The way of lines to the memory ports: from the PEs, the initialiser and the counters."""

from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..kernel import kernel_layout
from ..tokens import LINE_WRITE
from .initialise import Initialiser
from .memory_interface import port_of
from .write_arbiter import WriteArbiter


class WritePath(wiring.Component):
    """Sends each line to its memory port: a kernel's, and the counters' between kernels.

    Each port has a `WriteArbiter`, if there are several PEs, and an `Initialiser`. Lines of a PE
    that are for one port stay in order.

    Members
    -------
    result : In
        The descriptor's member of this name, constant while ``hold`` is low.
    hold : In(1)
        No kernel runs: lines of PEs are lost, and those of the counters pass.
    pe : array of streams of `tokens.LINE_WRITE`, in
        Each PE's.
    counters : stream of `tokens.LINE_WRITE`, in
        Not taken in a kernel.
    o : array of streams of `tokens.LINE_WRITE`, out
        Each port's.
    done : Out(1)
        No line of a PE is inside or offered, and the region is initialised.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "result": In(kernel_layout(config).members["result"]),
                "hold": In(1),
                "pe": In(stream.Signature(LINE_WRITE)).array(config.pes),
                "counters": In(stream.Signature(LINE_WRITE)),
                "o": Out(stream.Signature(LINE_WRITE)).array(config.memory_ports),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        kernel_reset = ResetInserter(self.hold)
        done = []
        for p in range(config.memory_ports):
            initialiser = Initialiser(config, p)
            m.submodules[f"initialiser_{p}"] = kernel_reset(initialiser)
            m.d.comb += initialiser.result.eq(self.result)
            done.append(initialiser.done)
            if config.pes == 1:
                self._pass(m, p, self.pe[0], initialiser.i)
            else:
                arbiter = WriteArbiter(config)
                m.submodules[f"arbiter_{p}"] = kernel_reset(arbiter)
                for pe, i in zip(self.pe, arbiter.i, strict=True):
                    self._pass(m, p, pe, i)
                wiring.connect(m, arbiter.o, initialiser.i)
                done.append(arbiter.idle)
            # No line of a PE is left when the counters' follow.
            with m.If(self.hold):
                self._pass(m, p, self.counters, self.o[p])
            with m.Else():
                wiring.connect(m, initialiser.o, wiring.flipped(self.o[p]))
        m.d.comb += self.done.eq(Cat(done).all())
        return m

    def _pass(self, m: Module, port: int, i: Any, o: Any) -> None:
        """Pass on the lines that are for this port."""
        here = port_of(self._config, i.payload.line) == port
        m.d.comb += [o.valid.eq(i.valid & here), o.payload.eq(i.payload)]
        with m.If(here):
            m.d.comb += i.ready.eq(o.ready)
