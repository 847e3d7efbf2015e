"""Kernels for benches of the PE and of the chip: lowered by the runtime, run by the model."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from loopnest import Chip
from loopnest.kernel.backends import Counters, ModelBackend
from loopnest.kernel.lists import KernelList
from loopnest.kernel.lower import Kernel
from loopnest.kernel.shared import SharedBackend
from loopnest.progress import Tick
from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import pack, unpack
from loopnest_sim.image import Image
from tests.rtl.kernels import KINDS, check, random_operands

NAMES = ["spmv", "spgemm by rows", "spgemm by inner products", "gemm", "add of three"]
"""Kinds of kernels with both shapes of the leaf, and operands of all formats."""

SMALL = {"i": 5, "j": 40, "k": 9}
LARGE = {"i": 5, "j": 150, "k": 6}
TALL = {"i": 40, "j": 20, "k": 3}
"""Sizes of the indices: results that exceed the slots of ``shrunk``; rows of several blocks."""


class Recorder(ModelBackend):
    """The golden model, which keeps the kernel that it ran."""

    kernel: Kernel

    def run(self, kernels: KernelList, progress: Tick | None = None) -> list[Counters]:
        (self.kernel,) = kernels.kernels
        return super().run(kernels, progress)


def lowered(
    preset: str, config: ChipConfig, name: str, seed: int, sizes: Mapping[str, int] = SMALL
) -> Kernel:
    """Return a kernel of this kind, whose result on the model equals NumPy's."""
    kind, dtype = KINDS[name], config.dtype.value
    chip = Chip(preset, dtype=dtype, backend="model", multipliers=config.multipliers)
    chip.device = replace(chip.device, shared=SharedBackend(partial(Recorder, config)))
    recorder: Any = chip.device.shared.backend
    operands = random_operands(kind, sizes, np.random.default_rng(seed), dtype)
    check(kind, operands, dtype, chip.compute(kind.statement, **operands, **kind.arguments()))
    return recorder.kernel


def fields_of(config: ChipConfig, kernel: Kernel) -> dict[str, int]:
    """Return every field of a kernel's descriptor."""
    return unpack(config, pack(config, kernel.fields))


def loaded(kernel: Kernel) -> Image:
    """Return a memory with a kernel and its operands, up to the end of its result's regions."""
    image = Image()
    for address, array in kernel.segments:
        image.write(address, array)
    # the result comes last
    end = kernel.fields["result.values_end"]
    image.write(max(end, image.extent), bytes(LINE_BYTES))
    return image
