"""The epilogue: bias, scale, threshold, ReLU, clamp and conversion to the output's type."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..arith.delay import Flow, delayed
from ..config import (
    COORDINATE_BITS,
    EPILOGUE_READS,
    LANES,
    POSITION_BITS,
    WIDE_BITS,
    ChipConfig,
    NumberFormat,
)
from ..format import BLOCK_COORDINATE_BITS, WORD_BYTES
from ..kernel import kernel_layout
from ..queue import Queue
from ..register import payload_register
from ..unary import lowest_bit, number
from .bf16_lane import Bf16Lane
from .int8_lane import Int8Lane

BIAS, SCALE = range(2)
"""The two halves of the gather's lanes."""

VALUE, FIBER, COORDINATE = range(3)
"""Where a bias or a scale comes from: the descriptor's ``bias_mode`` and ``scale_mode``."""

WIDTH = 2
"""Neighbouring lanes that are computed at once."""

GROUP = data.StructLayout(
    {
        "value": data.ArrayLayout(WIDE_BITS, WIDTH),
        "present": WIDTH,
        "place": range(LANES // WIDTH),
        "end": 1,
        "reply_end": 1,
    }
)
"""A group of lanes from ``WIDTH * place`` on; ``end`` is set in a block's last group, and
``reply_end`` if the next group uses another reply. A block without lanes has a group with none
present.
"""

HEADER = data.StructLayout(
    {"coordinate": BLOCK_COORDINATE_BITS, "fiber": POSITION_BITS, "last": 1, "final": 1}
)
"""A block without its lanes."""

PLACE = data.StructLayout(
    {
        "fiber": POSITION_BITS,
        "key": COORDINATE_BITS - (EPILOGUE_READS.bit_length() - 1),
        "lanes": EPILOGUE_READS,
    }
)
"""A request for biases and scales: of the lanes from ``EPILOGUE_READS * key`` on."""


class Epilogue(wiring.Component):
    """Applies the epilogue to every value, or passes blocks unchanged.

    If disabled, a block leaves one cycle after it arrives, one per cycle. If enabled, two lanes per
    cycle, an even one and the next, pass through the chip's arithmetic (`int8_lane`, `bf16_lane`);
    lanes that become 0 are removed from the mask, and a block without lanes is dropped, unless it
    has ``last`` or ``final``.

    Biases and scales in memory are requested as lanes enter, up to ``config.stream_depth`` pairs of
    lanes ahead of their use, with one request for every four lanes.

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
    request : Out(stream.Signature(tokens.gather_request(2 * EPILOGUE_READS)))
        The biases of neighbouring lanes, then their scales, 4 bytes each.
    reply : In(stream.Signature(tokens.gather_reply(2 * EPILOGUE_READS)))
    overflow : Out(1)
        int8: the sum of a value and its bias does not fit int32. Stays until reset.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "settings": In(kernel_layout(config).members["epilogue"]),
                "narrow": In(1),
                "i": In(stream.Signature(tokens.RESULT_BLOCK)),
                "o": Out(stream.Signature(tokens.RESULT_BLOCK)),
                "request": Out(stream.Signature(tokens.gather_request(2 * EPILOGUE_READS))),
                "reply": In(stream.Signature(tokens.gather_reply(2 * EPILOGUE_READS))),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._config.stream_depth
        m.submodules.groups = groups = Queue(GROUP, depth)
        m.submodules.headers = headers = Queue(HEADER, depth)
        m.submodules.places = places = Queue(PLACE, 2)
        settings = self.settings
        from_memory = [settings.bias_mode != VALUE, settings.scale_mode != VALUE]
        gathers = from_memory[BIAS] | from_memory[SCALE]

        walked = self._walk(m, groups, headers, places, gathers)
        self._ask(m, places, from_memory)

        # Compute: lanes whose bias and scale have arrived enter the pipeline, which stalls only
        # while its output is blocked.
        integer = self._config.dtype is NumberFormat.INT8
        units = [(Int8Lane if integer else Bf16Lane)(settings.shape()) for _ in range(WIDTH)]
        item = groups.o.payload
        advance = Signal()
        needs_reply = gathers & item.present.any()
        enters = Signal()

        m.d.comb += [
            enters.eq(groups.o.valid & (~needs_reply | self.reply.valid)),
            groups.o.ready.eq(advance & (~needs_reply | self.reply.valid)),
            self.reply.ready.eq(advance & groups.o.valid & needs_reply & item.reply_end),
        ]
        latency = units[0].latency
        # The lanes hold while there is no epilogue. With one, `enters` would be too late for them.
        loads = (advance & settings.enable).replicate(latency)
        for n, unit in enumerate(units):
            m.submodules[f"unit_{n}"] = unit

            def factor(kind: int, constant: Value, n: int = n) -> Value:
                """Return the lane's bias or scale."""
                read = [
                    self.reply.payload[kind * EPILOGUE_READS + at + n]
                    for at in range(0, EPILOGUE_READS, WIDTH)
                ]
                chosen = Array(read)[item.place[: (len(read) - 1).bit_length()]]
                return Mux(from_memory[kind], chosen, constant)

            m.d.comb += [
                unit.load.eq(loads),
                unit.value.eq(item.value[n]),
                unit.bias.eq(factor(BIAS, settings.bias_value)),
                unit.scale.eq(factor(SCALE, settings.scale_value)),
                unit.settings.eq(settings),
                unit.narrow.eq(self.narrow),
            ]
            summed = Flow(m, enters & item.present[n], unit.sum_latency, advance=advance)
            with m.If(summed.valid[-1] & unit.overflow):
                m.d.sync += self.overflow.eq(1)
        done_valid = Flow(m, enters, latency, advance=advance).valid[-1]
        done_present = delayed(m, item.present, loads)
        done_place = delayed(m, item.place, loads)
        done_end = delayed(m, item.end, loads)

        # Collect: the block is assembled at the output.
        block = payload_register(m, self.o)
        header = headers.o.payload
        room = ~self.o.valid | self.o.ready
        take = Signal()
        fresh = Signal(init=1)  # the next lane is its block's first
        keeps = Signal(WIDTH)
        for n, unit in enumerate(units):
            magnitude = Mux(self.narrow, unit.o[: self._config.dtype.narrow_bits], unit.o)
            if not integer:
                # -0 is 0
                narrow_sign = 1 << (self._config.dtype.narrow_bits - 1)
                magnitude = magnitude & ~Mux(self.narrow, narrow_sign, 1 << (WIDE_BITS - 1))
            m.d.comb += keeps[n].eq(done_present[n] & (magnitude != 0))
        arrived = Signal(LANES)
        mask = Signal(LANES)
        m.d.comb += [
            take.eq(done_valid & room & (headers.o.valid | ~done_end)),
            advance.eq(take | ~done_valid),
            headers.o.ready.eq(take & done_end),
            arrived.eq(keeps << Cat(Const(0, WIDTH.bit_length() - 1), done_place)),
            mask.eq(Mux(fresh, 0, block.mask) | arrived),
        ]
        with m.If(room):
            m.d.sync += self.o.valid.eq(0)
        with m.If(settings.enable):
            with m.If(take):
                m.d.sync += [
                    fresh.eq(done_end),
                    block.mask.eq(mask),
                    self.o.valid.eq(done_end & (mask.any() | header.last | header.final)),
                    block.coordinate.eq(header.coordinate),
                    block.second.as_value().eq(0),
                    block.fiber.eq(header.fiber),
                    block.last.eq(header.last),
                    block.final.eq(header.final),
                ]
                for lane in range(LANES):
                    with m.If(arrived[lane]):
                        m.d.sync += block.value[lane].eq(units[lane % WIDTH].o)
            m.d.comb += self.i.ready.eq(walked)
        with m.Else():
            with m.If(room):
                m.d.sync += [self.o.valid.eq(self.i.valid), block.eq(self.i.payload)]
            m.d.comb += self.i.ready.eq(room)
        return m

    def _walk(
        self, m: Module, groups: Queue, headers: Queue, places: Queue, gathers: Any
    ) -> Signal:
        """Send the arriving block's lanes on, lowest first; return whether its last ones leave."""
        arriving = self.i.payload
        count = LANES // WIDTH
        reads = EPILOGUE_READS // WIDTH  # groups of a reply
        whole = Signal(count)  # groups that have lanes
        gone = Signal(count)
        left = Signal(count)
        for g in range(count):
            m.d.comb += whole[g].eq(arriving.mask[g * WIDTH : (g + 1) * WIDTH].any())
        m.d.comb += left.eq(whole & ~gone)
        lowest = lowest_bit(m, left)
        rest = Signal(count)
        end = Signal()
        go = Signal()
        walked = Signal()
        reply_end = Signal()
        reply_begin = Signal()
        lanes = Signal(EPILOGUE_READS)
        place = number(lowest, (count - 1).bit_length())
        for at in range(0, count, reads):
            part = slice(at, at + reads)
            with m.If(lowest[part].any()):
                m.d.comb += [
                    reply_end.eq(~rest[part].any()),
                    reply_begin.eq(~(gone & whole)[part].any()),
                    lanes.eq(arriving.mask.word_select(at // reads, EPILOGUE_READS)),
                ]
        m.d.comb += [
            rest.eq(left & ~lowest),
            end.eq(~rest.any()),
            # The queues' readies are registers: they fall only after a transfer.
            go.eq(
                self.i.valid
                & self.settings.enable
                & groups.i.ready
                & headers.i.ready
                & places.i.ready
            ),
            walked.eq(go & end),
            groups.i.valid.eq(go),
            groups.i.payload.place.eq(place),
            groups.i.payload.end.eq(end),
            groups.i.payload.reply_end.eq(reply_end),
            headers.i.valid.eq(walked),
            headers.i.payload.coordinate.eq(arriving.coordinate),
            headers.i.payload.fiber.eq(arriving.fiber),
            headers.i.payload.last.eq(arriving.last),
            headers.i.payload.final.eq(arriving.final),
            places.i.valid.eq(go & gathers & reply_begin),
            places.i.payload.fiber.eq(arriving.fiber),
            places.i.payload.key.eq(Cat(place[(reads - 1).bit_length() :], arriving.coordinate)),
            places.i.payload.lanes.eq(lanes),
        ]
        for n in range(WIDTH):
            own = range(n, LANES, WIDTH)
            m.d.comb += [
                groups.i.payload.value[n].eq(
                    reduce(or_, (Mux(lowest[k // WIDTH], arriving.value[k], 0) for k in own))
                ),
                groups.i.payload.present[n].eq((Cat(arriving.mask[k] for k in own) & lowest).any()),
            ]
        with m.If(go):
            m.d.sync += gone.eq(Mux(end, 0, gone | lowest))
        return walked

    def _ask(self, m: Module, places: Queue, from_memory: list[Any]) -> None:
        """Turn places into addresses."""
        settings = self.settings
        place = places.o.payload
        request = payload_register(m, self.request)
        room = ~self.request.valid | self.request.ready
        m.d.comb += places.o.ready.eq(room)
        with m.If(room):
            m.d.sync += self.request.valid.eq(places.o.valid)
            for kind, base, mode in (
                (BIAS, settings.bias, settings.bias_mode),
                (SCALE, settings.scale, settings.scale_mode),
            ):
                for n in range(EPILOGUE_READS):
                    lane = kind * EPILOGUE_READS + n
                    key = Cat(Const(n, EPILOGUE_READS.bit_length() - 1), place.key)
                    index = Mux(mode == FIBER, place.fiber, key)
                    m.d.sync += [
                        request.valid[lane].eq(from_memory[kind] & place.lanes[n]),
                        request.address[lane].eq(base + index * WORD_BYTES),
                    ]
