"""Starts: what runs of a program between two interrupts, laid out in memory once."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.format import WORD_BYTES

from ..expression.operand import Operand
from ..expression.reshaped import LastRows
from ..formats import numbers
from ..formats.tensor import Tensor
from ..kernel.arena import DESCRIPTOR, Placed
from ..kernel.lists import KernelList, Ready, Sampled, list_arena, lower_list, sample
from .chain import base_packed, column_packed, find_chain, root, unviewed
from .image import Image, Packed, RegionFullError, place
from .steps import KernelStep, Step


class Start:
    """Kernels that run in one start.

    Parameters
    ----------
    operands : sequence of Operand
        What it needs (`root`).
    results : sequence of Operand
        What later steps know the kernels' results by.
    make : callable, optional
        Returns the image, given tensors that have to fit besides, by region.
    image : Image, optional
        The image, where it cannot be made again.

    Attributes
    ----------
    steps : tuple of KernelStep
        The same kernels, to run one by one; empty if they cannot be.
    """

    def __init__(
        self,
        operands: Sequence[Operand],
        results: Sequence[Operand],
        make: Callable[[Sequence[Tensor]], Image] | None = None,
        steps: Sequence[KernelStep] = (),
        image: Image | None = None,
    ) -> None:
        self.operands, self.results, self.steps = tuple(operands), tuple(results), tuple(steps)
        self._make, self._image = make, image

    @property
    def image(self) -> Image:
        """The kernels in memory."""
        if self._image is None:
            assert self._make is not None
            self._image = self._make(())
        return self._image

    def holding(self, tensors: Sequence[Tensor]) -> KernelList:
        """Return the kernels, to run with these tensors in the regions of the image.

        Raises
        ------
        RegionFullError
            If one does not fit, and the image cannot be made again.
        """
        try:
            return self.image.holding(tensors)
        except RegionFullError:
            if self._make is None:
                raise
            self._image = self._make(tensors)
            return self._image.holding(tensors)


Stage = Start | Step
"""A step of an execution."""


def find_stages(
    config: ChipConfig,
    steps: Sequence[Step],
    constants: Iterable[Operand],
    kept: Collection[Operand],
) -> tuple[tuple[Stage, ...], dict[int, str]]:
    """Return the steps with their chains (`find_chain`) as starts, and why a step is not in the
    start before it, by its number; ``constants`` are operands that are the same in all runs, and
    ``kept`` results stay until all steps are done.
    """
    last_use = {root(operand): n for n, step in enumerate(steps) for operand in step.operands}
    fixed = frozenset(operand.identity for operand in constants)
    stages: list[Stage] = []
    cuts: dict[int, str] = {}
    n = 0
    while n < len(steps):
        chain, why = find_chain(config, steps[n:], kept, fixed)
        if why:
            cuts[n + len(chain)] = why
        n += max(1, len(chain))
        if chain:
            read = {s.result for s in chain if s.result in kept or last_use.get(s.result, 0) >= n}
            stages.append(_start(config, chain, fixed, read))
        else:
            stages.append(steps[n - 1])
    return tuple(stages), cuts


def _start(
    config: ChipConfig,
    steps: Sequence[KernelStep],
    fixed: Collection[int],
    read: Collection[Operand],
) -> Start:
    layout: list[_Layout] = []  # of the first image

    def make(tensors: Sequence[Tensor]) -> Image:
        if not layout:
            layout.append(_lay_out(config, steps, fixed, read))
        return layout[0].image(tensors)

    results = [step.result for step in steps]
    operands = {root(operand) for step in steps for operand in step.operands}
    return Start(list(operands.difference(results)), results, make, steps)


@dataclass(frozen=True)
class _Layout:
    """What an image is made of.

    ``columns``: for each kernel and operand the number of the region, or if it is negative the
    complement of that of the kernel whose result it is; ``bases`` those of the tensors of which
    results are parts. ``kept`` are the kernels whose results are
    read after the last one.
    """

    config: ChipConfig
    steps: Sequence[KernelStep]
    packed: Sequence[Packed]
    columns: Sequence[tuple[int, ...]]
    bases: Sequence[int | None]
    sampled: Sequence[Sampled]
    kept: Collection[int]

    def image(self, tensors: Sequence[Tensor]) -> Image:
        """Return the image, in which these tensors fit, too."""
        arena = list_arena(self.config, len(self.steps))
        regions = []
        for n, packed in enumerate(self.packed):
            bytes_of = WORD_BYTES if packed.wide else self.config.dtype.narrow_bytes
            fitting = [t for t in (packed.default, *tensors[n : n + 1]) if t is not None]
            regions.append(place(arena, packed, bytes_of, fitting))

        def found(number: int) -> Placed | int:
            return regions[number].placed if number >= 0 else ~number

        ready = [
            Ready(
                step.plan,
                step.epilogue,
                tuple(map(found, columns)),
                sampled,
                None if base is None else found(base),
                _skipped(step) if base is not None and base < 0 else 0,
            )
            for step, columns, base, sampled in zip(
                self.steps, self.columns, self.bases, self.sampled, strict=True
            )
        ]
        kernels, descriptors = lower_list(self.config, ready, arena, self.kept)
        return Image(
            kernels,
            tuple(tuple(c if c >= 0 else None for c in columns) for columns in self.columns),
            tuple(regions),
            [(DESCRIPTOR, descriptors), *arena.segments],
            arena.end,
        )


def _skipped(step: KernelStep) -> int:
    """Return the bytes in front of a base in the result of the kernel that computes it."""
    return WORD_BYTES * step.base.skipped if isinstance(step.base, LastRows) else 0


def _lay_out(
    config: ChipConfig,
    steps: Sequence[KernelStep],
    fixed: Collection[int],
    read: Collection[Operand],
) -> _Layout:
    made: dict[Operand, int] = {step.result: n for n, step in enumerate(steps)}
    numbered: dict[tuple[object, ...], int] = {}
    found: list[Packed] = []
    samples: list[Tensor] = []
    every: list[tuple[int, ...]] = []
    bases: list[int | None] = []
    sampled: list[Sampled] = []

    def bring(packed: Packed) -> None:
        operand = packed.operand
        tensor = packed.pack(operand) if operand.known else None
        found.append(replace(packed, default=tensor))
        if tensor is None:
            tensor = _expected(unviewed(operand), packed.levels, packed.mode_order)
        samples.append(tensor)

    for step in steps:
        columns: list[int] = []
        own: list[Tensor] = []
        for c, (operand, stored) in enumerate(
            zip(step.plan.operands, step.plan.nest.columns, strict=True)
        ):
            before = made.get(root(operand))
            if before is not None:
                columns.append(~before)
                own.append(_expected(unviewed(operand), *stored.packing))
                continue
            packed = column_packed(step, c, fixed)
            if packed.key not in numbered:
                numbered[packed.key] = len(found)
                bring(packed)
            columns.append(numbered[packed.key])
            own.append(samples[columns[-1]])
        every.append(tuple(columns))
        base = None if step.base is None else made.get(root(step.base))
        bases.append(None if base is None else ~base)
        if step.base is not None and base is None:
            # a region of its own: the kernel writes into it
            bases[-1] = len(found)
            bring(base_packed(step.base, fixed))
        sampled.append(sample(config, step.plan, step.epilogue, own))
    kept = {n for n, step in enumerate(steps) if step.result in read}
    return _Layout(config, steps, found, every, bases, sampled, kept)


def _expected(operand: Operand, levels: Sequence[str], modes: Sequence[int]) -> Tensor:
    """Return a tensor with the entries that an operand is expected to have."""
    by_mode = operand.coordinates()
    if by_mode is None:
        by_mode = [places.reshape(-1) for places in np.indices(operand.shape)]
    values = np.zeros(
        len(by_mode[0]) if by_mode else 1, numbers.storage_dtype(operand.dtype, operand.wide)
    )
    return Tensor.from_stored(
        operand.shape, levels, by_mode, values,
        dtype=operand.dtype, wide=operand.wide, mode_order=modes,
    )  # fmt: skip
