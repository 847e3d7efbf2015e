"""Random kernels with a corrupted descriptor, tensor or bus response."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest import Chip, ChipError, Memory
from loopnest.expression.split import OneKernelError
from loopnest.kernel.backends import Counters, ModelBackend
from loopnest.kernel.lists import KernelList
from loopnest.kernel.lower import DESCRIPTOR, Kernel
from loopnest.kernel.shared import SharedBackend
from loopnest.progress import Tick
from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import descriptor_lines, kernel_fields, pack, places, unpack
from loopnest_hw.format import WORD_BYTES
from loopnest_sim.image import Image
from loopnest_sim.model.check import REGIONS
from loopnest_sim.model.run import run_kernels
from tests.rtl.chips import Pair
from tests.sim import nests

from . import expressions

BUDGET = 30_000
"""Cycle budget of a corrupted kernel, small so that an endless one ends soon."""

SOUND_BUDGET = 1_000_000
"""Cycle budget of the valid kernel after it, which may take many passes."""

NESTS = 0.35
"""Share of the cases that are random nests."""

TWICE = 0.15
"""Share of the cases that are lists of two kernels."""

INITIALISED, COUNTED = 0.4, 0.3
"""Shares of the cases whose kernels initialise their result's region, if it has at most
`MAX_INITIALISED` bytes, and write the counters to memory.
"""

MAX_INITIALISED = 1 << 15

LEVELS, ARRAYS = ("scanner", "dispatch"), ("table", "blocks")
"""Prefixes and suffixes of the descriptor's fields with levels' addresses."""

NEST = "a random nest"
"""The statement of such a case."""

Segments = list[tuple[int, NDArray[np.uint8]]]


@dataclass
class Case:
    """A kernel in memory, and its corruptions.

    Attributes
    ----------
    seed : int
    statement : str
    levels : set of int
        Addresses of position tables and block words.
    sound : list of (address, bytes)
        The memory before the corruptions: one descriptor or two, and the arrays.
    segments : list of (address, bytes)
        The memory when the chip starts. Only the first descriptor is corrupted.
    memory : Memory
    read_error, write_error : int
        Beat that is answered with an error, from 1; 0: none.
    silence : int
        Cycle from which on the memory does not answer; 0: never.
    done : list of str
        Descriptions of the corruptions.
    """

    seed: int
    statement: str
    levels: set[int]
    sound: Segments
    segments: Segments
    memory: Memory
    read_error: int = 0
    write_error: int = 0
    silence: int = 0
    done: list[str] = field(default_factory=list)

    @property
    def start(self) -> int:
        """Address of the first descriptor."""
        return self.segments[0][0]

    def __str__(self) -> str:
        return "; ".join([self.statement, *self.done, str(self.memory)])


class Recorder(ModelBackend):
    """A model that records the kernels that it runs."""

    def __init__(self, config: ChipConfig) -> None:
        super().__init__(config)
        self.kernels: list[Kernel] = []

    def run(self, kernels: KernelList, progress: Tick | None = None) -> list[Counters]:
        if len(kernels.kernels) == 1:  # one of a list is not in memory by itself
            self.kernels += kernels.kernels
        return super().run(kernels, progress)


def make_case(seed: int, pair: Pair) -> Case:
    """Return the case of this seed for a chip of this configuration."""
    config = pair.model.config
    rng = np.random.default_rng([seed, 2])
    if rng.random() < NESTS:
        statement, fields, arrays = _random_nest(rng, config)
    else:
        statement, fields, arrays = _random_kernel(rng, pair)
    fields |= {"budget": SOUND_BUDGET}
    twice = bool(rng.random() < TWICE)
    # the descriptors follow everything else, and the counters follow them
    ends = [fields.get(f"result.{name}_end", 0) for name in REGIONS]
    ends += [address + array.nbytes for address, array in arrays]
    start = -(-max(ends) // LINE_BYTES) * LINE_BYTES
    after = start + (1 + twice) * descriptor_lines(config) * LINE_BYTES
    fields |= _written_besides(np.random.default_rng([seed, 3]), fields, after)
    words = pack(config, fields)
    if twice:
        words = np.concatenate([pack(config, fields | {"last": 0}), words])
    sound = [(start, _bytes(words))]
    sound += [(address, _bytes(array)) for address, array in arrays]
    levels = {v for f, v in fields.items() if f.startswith(LEVELS) and f.endswith(ARRAYS)}
    memory = Memory(
        latency=int(rng.choice([1, 4, 9, 30])),
        bytes_per_cycle=float(rng.choice([32, 32, 16])),
        stall=float(rng.choice([0, 0, 0.3])),
        reorder=bool(rng.random() < 0.3),
        seed=seed % 1000 + 1,
    )
    case = Case(seed, statement, levels, sound, [(a, b.copy()) for a, b in sound], memory)
    corruptions = (_field, _field, _bit, _segment, _segment, _segment, _overlap, _bus)
    for _ in range(int(rng.choice([0, 1, 1, 1, 1, 2, 2, 3, 4]))):
        chosen: Callable[..., str] = corruptions[int(rng.integers(len(corruptions)))]
        case.done.append(chosen(rng, config, case))
    # an endless kernel has to end soon
    words = case.segments[0][1].view("<u4")
    place = next(p for p in places(config) if p.field.path == "budget")
    for n in range(place.word, len(words), descriptor_lines(config) * LINE_BYTES // WORD_BYTES):
        words[n] = min(int(words[n]), BUDGET)
    return case


def _written_besides(
    rng: np.random.Generator, fields: dict[str, int], address: int
) -> dict[str, int]:
    """Return fields that let a kernel write more than its result, the counters to an address."""
    found = {}
    name = "table" if fields.get("result.compressed") else "values"
    size = fields.get(f"result.{name}_end", 0) - fields.get(f"result.{name}", 0)
    if rng.random() < INITIALISED and size <= MAX_INITIALISED:
        found |= {"result.initialise": 1, "result.background": int(rng.integers(1 << 32))}
    if rng.random() < COUNTED:
        found["counters"] = address
    return found


Segment = tuple[int, NDArray[Any]]


def _random_nest(
    rng: np.random.Generator, config: ChipConfig
) -> tuple[str, dict[str, int], list[Segment]]:
    """Return a random nest: its descriptor's fields and its arrays."""
    while True:
        image, fields = nests.random_kernel(rng, config)
        fields["last"] = 1
        # an array ends where only zeros follow
        segments: list[Segment] = []
        for address in range(0, image.extent, nests.ARRAY_ROOM):
            used = np.flatnonzero(image.read(address, nests.ARRAY_ROOM))
            if len(used):
                size = -(-(int(used[-1]) + 1) // LINE_BYTES) * LINE_BYTES
                segments.append((address, image.read(address, size)))
        start = image.extent + LINE_BYTES & -LINE_BYTES
        image.write(start, pack(config, fields | {"budget": BUDGET}))
        run = run_kernels(config, image, start)
        if not run.errors and 0 < run.work < BUDGET // 40:
            return NEST, fields, segments


def _random_kernel(
    rng: np.random.Generator, pair: Pair
) -> tuple[str, dict[str, int], list[Segment]]:
    """Return a kernel of some random expression: its descriptor's fields and its arrays."""
    while True:
        case = expressions.make_case(int(rng.integers(1 << 31)), pair.dtype, plain=True)
        chip = Chip(pair.preset, dtype=pair.dtype, backend="model", **pair.overrides)
        chip.device = replace(chip.device, shared=SharedBackend(partial(Recorder, chip.config)))
        recorder: Any = chip.device.shared.backend
        try:
            chip.compute(case.statement, **case.arguments())
        except (OneKernelError, ChipError):
            continue
        if not recorder.kernels:
            continue
        kernel = recorder.kernels[int(rng.integers(len(recorder.kernels)))]
        image = image_of([(a, _bytes(array)) for a, array in kernel.segments])
        run = run_kernels(chip.config, image, DESCRIPTOR)
        if not run.errors and run.work < BUDGET // 40:
            return case.statement, dict(kernel.fields), kernel.segments[1:]


def image_of(segments: Segments) -> Image:
    """Return the memory with these segments."""
    image = Image()
    for address, data in segments:
        image.write(address, data)
    return image


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).copy()


def _set_field(config: ChipConfig, case: Case, path: str, value: int) -> str:
    words = case.segments[0][1].view("<u4")
    place = next(p for p in places(config) if p.field.path == path)
    mask = (1 << place.field.bits) - 1 << place.shift
    words[place.word] = int(words[place.word]) & ~mask | (value << place.shift & mask)
    return f"{path}={value:#x}"


def _field(rng: np.random.Generator, config: ChipConfig, case: Case) -> str:
    """Set a field of the descriptor to a random value, to a limit, or close to its value."""
    fields = list(kernel_fields(config))
    chosen = fields[int(rng.integers(len(fields)))]
    now = unpack(config, case.segments[0][1].view("<u4"))[chosen.path]
    most = (1 << chosen.bits) - 1
    value = [
        int(rng.integers(most + 1)), 0, most, 1, now + 1 & most, now - 1 & most, now + 16 & most,
        now ^ 1 << int(rng.integers(chosen.bits)),
    ][int(rng.integers(8))]  # fmt: skip
    return _set_field(config, case, chosen.path, value)


def _bit(rng: np.random.Generator, config: ChipConfig, case: Case) -> str:
    """Flip a bit of the descriptor."""
    data = case.segments[0][1]
    bit = int(rng.integers(8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    return f"bit {bit} of the descriptor"


def _segment(rng: np.random.Generator, config: ChipConfig, case: Case) -> str:
    """Corrupt a word of an array, often of a table or of block words."""
    tensors = [(a, d) for a, d in case.segments[1:] if len(d) >= 4]
    if rng.random() < 0.7:
        tensors = [(a, d) for a, d in tensors if a in case.levels] or tensors
    if not tensors:
        return _bit(rng, config, case)
    address, data = tensors[int(rng.integers(len(tensors)))]
    words = data[: len(data) // 4 * 4].view("<u4")
    at, other = (int(rng.integers(len(words))) for _ in range(2))
    now = int(words[at])
    how = int(rng.integers(8))
    if how == 0:
        words[at], words[other] = int(words[other]), now
    else:
        words[at] = [
            now ^ 1 << int(rng.integers(32)), int(rng.integers(1 << 32)), 0, now & 0xFFFF0000,
            int(words[other]), now + 1 & 0xFFFFFFFF, now + (1 << 16) & 0xFFFFFFFF,
        ][how - 1]  # fmt: skip
    return f"word {at} at {address:#x}: {now:#x} to {int(words[at]):#x}"


def _overlap(rng: np.random.Generator, config: ChipConfig, case: Case) -> str:
    """Move a region of the result over other data."""
    fields = unpack(config, case.segments[0][1].view("<u4"))
    name = str(rng.choice(["table", "blocks", "values", "values"]))
    size = fields[f"result.{name}_end"] - fields[f"result.{name}"]
    target = case.segments[int(rng.integers(len(case.segments)))]
    address = target[0] + int(rng.integers(-1, 3)) * LINE_BYTES
    _set_field(config, case, f"result.{name}_end", address + max(size, 0))
    return _set_field(config, case, f"result.{name}", address)


def _bus(rng: np.random.Generator, config: ChipConfig, case: Case) -> str:
    """Make a beat fail, or the memory stop answering."""
    beat = int(2 ** rng.uniform(0, 8))
    kind = int(rng.integers(3))
    if kind == 0:
        case.read_error = beat
        return f"read {beat} fails"
    if kind == 1:
        case.write_error = beat
        return f"write {beat} fails"
    case.silence = 4 * beat
    return f"no answers from cycle {case.silence} on"
