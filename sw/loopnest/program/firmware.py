"""Programs for firmware: an image of each start, in a flat file that `sw/driver` loads.

All words are little endian, and have 32 bits. Addresses are relative to the first descriptor, where
the image begins in memory, at any multiple of 32 bytes; the words that relocations list hold such
addresses, too.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig, NumberFormat
from loopnest_hw.descriptor import ResultMode, descriptor_lines, places
from loopnest_hw.format import WORD_BYTES
from loopnest_hw.registers import configuration_word

from ..expression.operand import Operand
from ..expression.reshaped import Reshaped
from ..expression.view import View
from ..formats import numbers
from ..formats.levels import MAX_ORDER
from ..formats.pack import COMPRESSED
from ..kernel.lower import Kernel
from .chain import root
from .contents import Contents
from .firmware_steps import check_steps, reshaped_inputs, steps_header
from .image import Image, Region
from .saved import needed_stages
from .start import Start
from .steps import KernelStep

MAGIC = int.from_bytes(b"LNPI", "little")
VERSION = 2
HEADER_WORDS = 32
TENSOR_WORDS = 48
CHECKED_FROM = 16
"""Byte from which on the header's sum covers the file."""

RESULT, COMPRESSED_RESULT, MASK = 1, 2, 4
"""Flags of tensors."""

Words = list[int]


def write_images(path: str | Path, contents: Contents) -> tuple[Path, ...]:
    """Write the image of each start; return the files. With several, they are numbered. Where the
    host has steps, a C header beside them has the table of all steps (`steps_header`).

    Raises
    ------
    ValueError
        If a kernel is not part of a start, a result lies in memory in a form that the driver does
        not read, or an operator is computed by a library of Python; the message names it.
    """
    path = Path(path)
    stages = needed_stages(contents)
    for stage in stages:
        if isinstance(stage, KernelStep):
            raise ValueError(
                f"{path}: the kernel {stage.plan.statement} may take other loops, or more memory "
                f"than is reserved, as the run turns out: expected one that a list of kernels takes"
            )
    check_steps(stages)
    shown = reshaped_inputs(stages, contents.inputs.values())
    starts = [stage for stage in stages if isinstance(stage, Start)]
    last_use = {root(o): n for n, stage in enumerate(stages) for o in stage.operands}
    made = []
    for number, start in enumerate(starts, 1):
        after = stages.index(start)
        results = {
            name: outcome.operand
            for name, outcome in contents.outcomes.items()
            if root(outcome.operand) in start.results
        }
        others = [r for r in start.results if last_use.get(r, 0) > after]
        results |= {r.name: r for r in others if r not in map(root, results.values())}
        own = path
        if len(starts) > 1:
            own = path.with_stem(f"{path.stem}-{number}")
        own.write_bytes(_Writer(contents, start.image, start.results, results, shown).image())
        made.append(own)
    if any(not isinstance(stage, Start) and stage.result not in shown for stage in stages):
        header = steps_header(path.stem, stages, contents.inputs.values())
        path.with_suffix(".h").write_text(header)
    return tuple(made)


class _Writer:
    def __init__(
        self,
        contents: Contents,
        image: Image,
        computed: Sequence[Operand],
        results: Mapping[str, Operand],
        shown: Mapping[Operand, Operand],
    ) -> None:
        self._contents, self._image = contents, image
        self._computed, self._results = list(computed), results
        self._base, self._shown = image.start, shown
        self._strings = bytearray()

    def image(self) -> bytes:
        """Return the file."""
        config, image = self._contents.config, self._image
        kernels = image.kernels
        tensors = [*self._inputs(), *self._outputs()]
        relocations = self._relocations(config, kernels)
        counters = [self._at(kernel.fields["counters"]) for kernel in kernels]
        (first, absolute), *others = image.constants
        descriptors = np.array(absolute)
        descriptors.view(np.uint32)[np.array(relocations) // WORD_BYTES] -= np.uint32(self._base)
        segments = [(first, descriptors), *others]
        for region in image.regions:
            if region.default is not None:
                segments += region.segments(region.default)
        segments = [(address, data) for address, data in segments if data.nbytes]
        cycles = round(sum(kernel.plan.cycles for kernel in kernels))
        if not self._strings:
            self._strings += b"\0"
        tables = {"segments": 3 * len(segments), "counters": len(counters)}
        tables |= {"relocations": len(relocations), "tensors": TENSOR_WORDS * len(tensors)}
        at, end = {}, HEADER_WORDS * WORD_BYTES
        for name, words in tables.items():
            at[name] = end
            end += words * WORD_BYTES
        at["strings"] = end
        end += len(self._strings)
        data, placed = bytearray(), []
        for address, array in segments:
            end = -(-end // WORD_BYTES) * WORD_BYTES
            data += b"\0" * (end - at["strings"] - len(self._strings) - len(data))
            raw = np.ascontiguousarray(array).tobytes()
            placed += [self._at(address), end, len(raw)]
            data += raw
            end += len(raw)
        header = [
            *(configuration_word(config), descriptor_lines(config)),
            *(self._at(image.end), self._at(image.start)),
            *(cycles & 0xFFFFFFFF, cycles >> 32),
            *(len(kernels), at["counters"]),
            *(len(segments), at["segments"]),
            *(len(relocations), at["relocations"]),
            *(len(tensors), at["tensors"]),
            *(at["strings"], len(self._strings)),
        ]
        body = _packed([*header, *[0] * (HEADER_WORDS - 4 - len(header))])
        body += _packed([*placed, *counters, *relocations, *(w for t in tensors for w in t)])
        body += bytes(self._strings) + bytes(data)
        checked = [MAGIC, VERSION, CHECKED_FROM + len(body), zlib.crc32(body)]
        return _packed(checked) + body

    def _at(self, address: int) -> int:
        return address - self._base

    def _name(self, name: str) -> int:
        encoded = name.encode() + b"\0"
        at = self._strings.find(encoded)
        if at < 0 or (at and self._strings[at - 1]):
            at = len(self._strings)
            self._strings += encoded
        return at

    def _relocations(self, config: ChipConfig, kernels: Sequence[Kernel]) -> Words:
        """Return the places of the addresses in the descriptors."""
        found = []
        nbytes = self._image.constants[0][1].nbytes // len(kernels)
        for n, kernel in enumerate(kernels):
            for place in places(config):
                if is_address(place.field.path) and kernel.fields.get(place.field.path):
                    found.append(n * nbytes + place.word * WORD_BYTES)
        return found

    def _inputs(self) -> list[Words]:
        """Return the regions that runs may write, as tensors."""
        found = []
        derived = self._derived()
        for region in self._image.regions:
            name, zero = self._input(region)
            if region.default is None:
                name = name or root(region.operand).name
            if name is not None and name not in derived:
                found.append(self._region(name, zero, region))
        return found

    def _input(self, region: Region) -> tuple[str | None, float]:
        """Return the input that a region holds as it is, and the value that it leaves out."""
        operand, zero = region.operand, 0.0
        if operand.origin is not None:
            operand, zero = operand.origin
        if region.neutral is not None:
            for bound in self._contents.bound:
                if bound.mask in self._contents.inputs and bound.operands[-1] is operand:
                    return bound.mask, zero
        return self._plain(operand), zero

    def _plain(self, operand: Operand) -> str | None:
        if isinstance(operand, View):
            return self._plain(operand.base)
        operand = self._shown.get(root(operand), operand)
        named = (name for name, own in self._contents.inputs.items() if own is operand)
        return next(named, None)

    def _derived(self) -> set[str]:
        """Return the inputs of which statements take other tensors, made by the host: these stay
        what the program was compiled for.
        """
        return {
            name
            for bound in self._contents.bound
            for place, (name, operand) in enumerate(zip(bound.names, bound.operands, strict=True))
            if name is not None
            and name in self._contents.inputs
            and self._plain(operand) != name
            and not (name == bound.mask and place == len(bound.operands) - 1)
        }

    def _region(self, name: str, zero: float, region: Region) -> Words:
        dtype, order = self._contents.config.dtype, len(region.shape)
        absent = numbers.encode(np.array([zero]), dtype, region.wide, lambda _: (0,))
        at, levels = iter(zip(region.placed.addresses, region.placed.sizes, strict=True)), []
        for kind in region.levels:
            for _ in range(2):
                address, nbytes = next(at) if kind == COMPRESSED else (self._base, 0)
                levels += [self._at(address), nbytes]
        address, nbytes = next(at)
        return [
            self._name(name),
            MASK if region.neutral is not None else 0,
            _type(dtype, region.wide),
            order,
            *_padded(region.shape, 1),
            *_padded([int(kind == COMPRESSED) for kind in region.levels]),
            *_padded(region.mode_order),
            *_padded([]),
            *_padded([]),
            *(0, 0, int.from_bytes(absent.tobytes(), "little") if zero else 0),
            *levels,
            *[0] * (4 * (MAX_ORDER - order)),
            *(self._at(address), nbytes),
            *[0] * (TENSOR_WORDS - 45),
        ]

    def _outputs(self) -> list[Words]:
        found = []
        for name, operand in self._results.items():
            kernel = self._image.kernels[self._computed.index(root(operand))]
            found.append(self._result(name, operand, kernel))
        return found

    def _result(self, name: str, operand: Operand, kernel: Kernel) -> Words:
        plan, result, fields = kernel.plan, kernel.plan.result, kernel.fields
        indices = plan.statement.result.indices
        shape = [plan.sizes[i] for i in indices]
        modes = [result.modes[i] for i in indices]
        steps = [step for _, step in modes]
        if result.part is not None:
            shape = list(result.part.shape)
            modes, steps = [(ResultMode.FIBER, step) for step in _steps(shape)], _steps(shape)
        if isinstance(operand, Reshaped):
            if result.compressed or steps != _steps(shape):
                raise ValueError(
                    f"{name}: its elements lie in memory in another order than as "
                    f"{operand.shape}: expected the result as {tuple(shape)}"
                )
            shape, modes = list(operand.shape), [(ResultMode.FIBER, 0)] * len(operand.shape)
            steps = _steps(shape)
        keys = sorted(step for mode, step in modes if mode is ResultMode.KEY)
        upper = [
            next((k for k in keys if k > step), result.span)
            if mode is ResultMode.KEY
            else step * size
            for (mode, step), size in zip(modes, shape, strict=True)
        ]
        in_key = sum((mode is ResultMode.KEY) << m for m, (mode, _) in enumerate(modes))
        levels = [0, 0, 0, 0]
        if result.compressed:
            for n, region in enumerate(("table", "blocks")):
                first, end = fields[f"result.{region}"], fields[f"result.{region}_end"]
                levels[2 * n : 2 * n + 2] = self._at(first), end - first
        values, end = fields["result.values"], fields["result.values_end"]
        return [
            self._name(name),
            RESULT | (COMPRESSED_RESULT if result.compressed else 0),
            _type(self._contents.config.dtype, not kernel.narrow),
            len(shape),
            *_padded(shape, 1),
            *_padded([]),
            *_padded([]),
            *_padded(steps),
            *_padded(upper),
            *(in_key, result.fibers, 0),
            *levels,
            *[0] * (4 * (MAX_ORDER - 1)),
            *(self._at(values), end - values),
            *[0] * (TENSOR_WORDS - 45),
        ]


def is_address(path: str) -> bool:
    """Return whether a field of a descriptor is a byte address."""
    last = path.rpartition(".")[2].removesuffix("_end")
    return path in ("counters", "epilogue.bias", "epilogue.scale") or (
        last in ("table", "blocks", "values", "address")
    )


def _type(dtype: NumberFormat, wide: bool) -> int:
    return 2 * wide + (dtype is NumberFormat.BF16)


def _steps(shape: Sequence[int]) -> list[int]:
    """Return the steps of row-major elements."""
    return [int(np.prod(shape[n + 1 :], dtype=np.int64)) for n in range(len(shape))]


def _padded(words: Sequence[int], with_: int = 0) -> Words:
    return [*words, *[with_] * (MAX_ORDER - len(words))]


def _packed(words: Sequence[Any]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)
