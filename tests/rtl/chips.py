"""Chips in the RTL simulator, each beside the golden model of the same configuration.

A chip takes minutes to build, so a few are shared by all tests, and the tests of one chip run in
one process (``--dist loadgroup``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest.program.execute
from loopnest import Chip, Memory, Tensor
from loopnest.kernel.lower import DESCRIPTOR, Kernel, lower
from loopnest_hw.config import LINE_BYTES, parse_overrides
from loopnest_hw.descriptor import pack
from loopnest_hw.registers import OFFSETS

QUICK = Memory(latency=4, fill=0xA5)
"""The memory of most tests. What was never written is no zero."""


SEVERAL = "shrunk/int8/pes=3"
"""A chip of several PEs."""

TWO_PORTS = f"{SEVERAL}/memory_ports=2"
"""One with two memory ports."""

MAX_CHIPS = 32
"""Simulations of a pair that are kept by default, one for each memory."""


class Bits:
    """A result as it is stored: two are equal if no bit differs, a NaN's included."""

    def __init__(self, result: Any) -> None:
        self.shape = result.shape
        if isinstance(result, Tensor):
            arrays = [a for a in result.arrays if a is not None]
            parts = [*(a.table for a in arrays), *(a.words for a in arrays), result.values]
        elif sp.issparse(result) and result.format == "csr":
            parts = [result.indptr, result.indices, result.data]
        elif sp.issparse(result):
            parts = [*result.coords, result.data]
        else:
            parts = [np.asarray(result)]
        *self.places, self.values = parts
        self.bytes = [np.ascontiguousarray(part).tobytes() for part in self.places]
        self.bytes.append(np.ascontiguousarray(self.values).tobytes())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Bits)
            and (self.shape, self.values.dtype) == (other.shape, other.values.dtype)
            and self.bytes == other.bytes
        )

    def __repr__(self) -> str:
        return f"shape {self.shape}, {self.places}, {self.values.dtype} {self.values}"


class Pair:
    """A chip on the RTL, with any memory, and the golden model.

    Parameters
    ----------
    name : str
        Preset, number format and overrides: ``"shrunk/int8"``, ``"tiny/bf16/multipliers=8"``.
    max_chips : int
        Simulations to keep. The one that was made first is closed when there are more.

    Attributes
    ----------
    preset, dtype : str
    report : RunReport
        Of the last kernel on the RTL.
    """

    def __init__(self, name: str, *, max_chips: int = MAX_CHIPS) -> None:
        self.name = name
        self._max_chips = max_chips
        self.preset, self.dtype, *overrides = name.split("/")
        self.overrides = parse_overrides(overrides)
        self._chips: dict[Memory, Chip] = {}
        self._models: dict[int, Chip] = {}
        self._latest: Chip | None = None
        self.model = self._model(QUICK)

    def chip(self, memory: Memory = QUICK) -> Chip:
        """Return the chip with that memory."""
        if memory not in self._chips:
            while len(self._chips) >= self._max_chips:
                simulator(self._chips.pop(next(iter(self._chips)))).close()
            self._chips[memory] = Chip(
                self.preset, dtype=self.dtype, memory=memory, progress=False, **self.overrides
            )
        return self._chips[memory]

    def run(self, statement: str, *, memory: Memory = QUICK, **arguments: Any) -> Any:
        """Compute on both, assert that they agree in every bit, and return the RTL's result."""
        chip = self.chip(memory)
        self._latest = chip
        got = chip.compute(statement, **arguments)
        # the memory's latency is not part of a result, but it may be of the choice of its loops
        self.model = self._model(memory)
        expected = self.model.compute(statement, **arguments)
        assert Bits(got) == Bits(expected), f"{statement} {chip.report and chip.report.order}"
        report, golden = chip.report, self.model.report
        assert report is not None and golden is not None
        counted = (report.multiplies, report.leaf_steps)
        if report.passes:  # a block that was given up is computed again
            assert counted[0] >= golden.multiplies
        else:
            assert counted == (golden.multiplies, golden.leaf_steps)
            pairs = zip(report.work, golden.work, strict=True)
            for run, (mine, model) in zip(report._runs, pairs, strict=True):
                if run.config.cached:
                    # the cache saves reads, and each PE has its own unfinished lines
                    assert LINE_BYTES * mine.lines_read >= model.bytes_read
                    assert LINE_BYTES * mine.lines_written >= model.bytes_written
                    continue
                if run.kernel.fields.get("epilogue.enable"):
                    assert mine.lines_read >= model.lines_read  # biases and scales
                else:
                    assert mine.lines_read == model.lines_read
                assert mine.lines_written == model.lines_written
                assert mine.bytes_read >= model.bytes_read
                assert mine.bytes_written >= model.bytes_written
        assert not simulator(chip).violations
        self.report = report
        return got

    def _model(self, memory: Memory) -> Chip:
        latency = memory.latency
        if latency not in self._models:
            self._models[latency] = Chip(
                self.preset,
                dtype=self.dtype,
                memory=Memory(latency=latency),
                backend="model",
                progress=False,
                **self.overrides,
            )
        return self._models[latency]

    def counter(self, name: str) -> int:
        """Return a counter of the last kernel on the RTL."""
        assert self._latest is not None
        return int(simulator(self._latest).register(OFFSETS[name]))


def simulator(chip: Chip) -> Any:
    """Return the chip's simulator."""
    backend: Any = chip.device.shared.backend
    return backend._simulator


def on(*names: str) -> pytest.MarkDecorator:
    """Return a mark that runs a test on these chips, such as ``"shrunk/int8"``, as ``pair``."""
    return pytest.mark.parametrize(
        "pair",
        [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in names],
        indirect=True,
    )


@contextmanager
def altered(change: Callable[[Kernel], dict[str, int]]) -> Iterator[None]:
    """Let descriptors have other fields than the runtime gives them."""

    def altered_lower(config: Any, *args: Any, **options: Any) -> Kernel:
        kernel = lower(config, *args, **options)
        fields = dict(kernel.fields) | change(kernel)
        segments = [(DESCRIPTOR, pack(config, fields)), *kernel.segments[1:]]
        return replace(kernel, fields=fields, segments=segments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loopnest.program.execute, "lower", altered_lower)
        yield
