"""Bias, scale, threshold, relu, clamp and the output's type, on the way out."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..arith.delay import delayed
from ..config import COORDINATE_BITS, LANES, POSITION_BITS, WIDE_BITS, ChipConfig, NumberFormat
from ..format import BLOCK_COORDINATE_BITS, WORD_BYTES
from ..kernel import kernel_layout
from ..queue import Queue
from .bf16_lane import Bf16Lane
from .int8_lane import Int8Lane

BIAS, SCALE = range(2)
"""Lanes of the gather stream."""

VALUE, FIBER, COORDINATE = range(3)
"""Where a bias or a scale comes from: the descriptor's ``bias_mode`` and ``scale_mode``."""

LANE = data.StructLayout({"value": WIDE_BITS, "lane": range(LANES), "present": 1, "end": 1})
"""A lane on its way; ``end`` is set in its block's last one. A block without lanes is one that is
not ``present``."""

HEADER = data.StructLayout(
    {"coordinate": BLOCK_COORDINATE_BITS, "fiber": POSITION_BITS, "last": 1, "final": 1}
)
"""A block but for its lanes."""

PLACE = data.StructLayout({"fiber": POSITION_BITS, "key": COORDINATE_BITS})
"""Whose bias and scale."""


class Epilogue(wiring.Component):
    """Applies the epilogue to every value, or passes blocks unchanged.

    Not enabled, a block leaves a cycle after it came, one each cycle. Enabled, lanes go one a cycle
    through the chip's arithmetic (`int8_lane`, `bf16_lane`); what is then 0 leaves the mask, and a
    block without lanes vanishes, unless it has ``last``.

    Biases and scales that come from memory are asked for as lanes enter, up to
    ``config.stream_depth`` lanes ahead of their use, a request and a reply for each lane.

    Parameters
    ----------
    config : ChipConfig
        The chip.

    Members
    -------
    settings : In(kernel_layout(config).members["epilogue"])
    narrow : In(1)
        The output's type. Both are constant from two cycles before the first block on.
    i : In(stream.Signature(tokens.RESULT_BLOCK))
    o : Out(stream.Signature(tokens.RESULT_BLOCK))
        A narrow value is extended with zeros.
    request : Out(stream.Signature(tokens.gather_request(2)))
        Lane 0: bias, lane 1: scale, 4 bytes each.
    reply : In(stream.Signature(tokens.gather_reply(2)))
    overflow : Out(1)
        int8: a value and its bias left int32. Stays until reset.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "settings": In(kernel_layout(config).members["epilogue"]),
                "narrow": In(1),
                "i": In(stream.Signature(tokens.RESULT_BLOCK)),
                "o": Out(stream.Signature(tokens.RESULT_BLOCK)),
                "request": Out(stream.Signature(tokens.gather_request(2))),
                "reply": In(stream.Signature(tokens.gather_reply(2))),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._config.stream_depth
        m.submodules.lanes = lanes = Queue(LANE, depth)
        m.submodules.headers = headers = Queue(HEADER, depth)
        m.submodules.places = places = Queue(PLACE, 2)
        settings = self.settings
        from_memory = [settings.bias_mode != VALUE, settings.scale_mode != VALUE]
        gathers = from_memory[BIAS] | from_memory[SCALE]

        walked = self._walk(m, lanes, headers, places, gathers)
        self._ask(m, places, from_memory)

        # Compute: lanes whose bias and scale are there enter the pipe, which never holds one back
        # but where its output stands still.
        integer = self._config.dtype is NumberFormat.INT8
        unit = (Int8Lane if integer else Bf16Lane)(settings.shape())
        m.submodules.unit = unit
        item = lanes.o.payload
        advance = Signal()
        needs_reply = gathers & item.present
        enters = Signal()

        def piped(value: Any, cycles: int, *, reset_less: bool = True) -> Any:
            return delayed(m, value, cycles, advance=advance, reset_less=reset_less)

        m.d.comb += [
            enters.eq(lanes.o.valid & (~needs_reply | self.reply.valid)),
            lanes.o.ready.eq(advance & (~needs_reply | self.reply.valid)),
            self.reply.ready.eq(advance & lanes.o.valid & needs_reply),
            unit.advance.eq(advance),
            unit.value.eq(item.value),
            unit.bias.eq(Mux(from_memory[BIAS], self.reply.payload[BIAS], settings.bias_value)),
            unit.scale.eq(Mux(from_memory[SCALE], self.reply.payload[SCALE], settings.scale_value)),
            unit.settings.eq(settings),
            unit.narrow.eq(self.narrow),
        ]
        summed = piped(enters & item.present, unit.sum_latency, reset_less=False)
        with m.If(summed & unit.overflow):
            m.d.sync += self.overflow.eq(1)
        done_valid = piped(enters, unit.latency, reset_less=False)
        done_present = piped(item.present, unit.latency)
        done_lane = piped(item.lane, unit.latency)
        done_end = piped(item.end, unit.latency)

        # Collect: the block is put together where it leaves.
        block = self.o.payload
        header = headers.o.payload
        room = ~self.o.valid | self.o.ready
        take = Signal()
        fresh = Signal(init=1)  # the next lane is its block's first
        magnitude = Mux(self.narrow, unit.o[: self._config.dtype.narrow_bits], unit.o)
        if not integer:
            # -0 is 0
            sign = Mux(self.narrow, 1 << (self._config.dtype.narrow_bits - 1), 1 << (WIDE_BITS - 1))
            magnitude = magnitude & ~sign
        keeps = done_present & (magnitude != 0)
        mask = Signal(LANES)
        m.d.comb += [
            take.eq(done_valid & room & (headers.o.valid | ~done_end)),
            advance.eq(take | ~done_valid),
            headers.o.ready.eq(take & done_end),
            mask.eq(Mux(fresh, 0, block.mask) | (keeps << done_lane)),
        ]
        with m.If(room):
            m.d.sync += self.o.valid.eq(0)
        with m.If(settings.enable):
            with m.If(take):
                m.d.sync += [
                    fresh.eq(done_end),
                    block.mask.eq(mask),
                    self.o.valid.eq(done_end & (mask.any() | header.last)),
                    block.coordinate.eq(header.coordinate),
                    block.fiber.eq(header.fiber),
                    block.last.eq(header.last),
                    block.final.eq(header.final),
                ]
                for lane in range(LANES):
                    with m.If(keeps & (done_lane == lane)):
                        m.d.sync += block.value[lane].eq(unit.o)
                    with m.Elif(fresh):
                        m.d.sync += block.value[lane].eq(0)
            m.d.comb += self.i.ready.eq(walked)
        with m.Else():
            with m.If(room):
                m.d.sync += [self.o.valid.eq(self.i.valid), block.eq(self.i.payload)]
            m.d.comb += self.i.ready.eq(room)
        return m

    def _walk(self, m: Module, lanes: Queue, headers: Queue, places: Queue, gathers: Any) -> Signal:
        """Send the arriving block's lanes on, lowest first; return that its last one goes."""
        arriving = self.i.payload
        gone = Signal(LANES)
        left = arriving.mask & ~gone
        lowest = left & (~left + 1)[:LANES]
        end = ~(left & ~lowest).any()
        go = Signal()
        walked = Signal()
        lane = reduce(or_, (Mux(lowest[k], k, 0) for k in range(LANES)))
        m.d.comb += [
            # The queues' readies are registers: they fall only when something is put.
            go.eq(
                self.i.valid
                & self.settings.enable
                & lanes.i.ready
                & headers.i.ready
                & places.i.ready
            ),
            walked.eq(go & end),
            lanes.i.valid.eq(go),
            lanes.i.payload.value.eq(
                reduce(or_, (Mux(lowest[k], arriving.value[k], 0) for k in range(LANES)))
            ),
            lanes.i.payload.lane.eq(lane),
            lanes.i.payload.present.eq(arriving.mask.any()),
            lanes.i.payload.end.eq(end),
            headers.i.valid.eq(walked),
            headers.i.payload.coordinate.eq(arriving.coordinate),
            headers.i.payload.fiber.eq(arriving.fiber),
            headers.i.payload.last.eq(arriving.last),
            headers.i.payload.final.eq(arriving.final),
            places.i.valid.eq(go & gathers & arriving.mask.any()),
            places.i.payload.fiber.eq(arriving.fiber),
            places.i.payload.key.eq(arriving.coordinate * LANES + lane),
        ]
        with m.If(go):
            m.d.sync += gone.eq(Mux(end, 0, gone | lowest))
        return walked

    def _ask(self, m: Module, places: Queue, from_memory: list[Any]) -> None:
        """Turn places to addresses."""
        settings = self.settings
        place = places.o.payload
        request = self.request.payload
        room = ~self.request.valid | self.request.ready
        m.d.comb += places.o.ready.eq(room)
        with m.If(room):
            m.d.sync += self.request.valid.eq(places.o.valid)
            for lane, base, mode in (
                (BIAS, settings.bias, settings.bias_mode),
                (SCALE, settings.scale, settings.scale_mode),
            ):
                index = Mux(mode == FIBER, place.fiber, place.key)
                m.d.sync += [
                    request.valid[lane].eq(from_memory[lane]),
                    request.address[lane].eq(base + index * WORD_BYTES),
                ]
