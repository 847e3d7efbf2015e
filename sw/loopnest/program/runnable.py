"""What runs with inputs and reports on it: a program, compiled or from a file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self

from ..kernel.shared import Latest
from ..report.report import RunReport, combine_layers
from .contents import Contents
from .device import Device, HasDevice, configuration, mismatch
from .firmware import write_images


class Runnable(ABC):
    """A program that can run.

    Attributes
    ----------
    inputs : tuple of str
        The names of the tensors from outside.
    results : tuple of str
        The names of what a call returns, in this order.
    report : RunReport or None
        Of the last run in this thread, or in any if this one has run nothing; None where that run
        did not end.
    layers : mapping of str to RunReport
        Of the same run, for each statement, by the name of its result.
    expected : mapping of str to float
        The cycles that each statement is expected to take, likewise.
    measured : mapping of str to int
        Those that it took in the run of `layers`; empty if none were counted.
    cycles : mapping of str to float
        As measured, otherwise as expected.
    """

    inputs: tuple[str, ...]
    results: tuple[str, ...]

    def __init__(self, device: Device) -> None:
        self._device = device
        self._reports: Latest[dict[str, RunReport]] = Latest()

    def on(self, chip: HasDevice) -> Self:
        """Return the program for another chip of the same configuration, such as another backend
        or memory: nothing is planned or laid out again.

        Raises
        ------
        ValueError
            If the chip has another configuration.
        TypeError
            If it is none.
        """
        device = getattr(chip, "device", None)
        if not isinstance(device, Device):
            raise TypeError(f"chip={chip!r}: expected a Chip")
        cause = mismatch(configuration(self._device.config), device.config)
        if cause is not None:
            raise ValueError(f"chip: {cause}")
        other = copy(self)
        Runnable.__init__(other, device)
        return other

    def __call__(self, *inputs: Any) -> Any:
        """Run with these inputs, in the order of ``inputs``; those not given are the ones it was
        compiled for.

        Returns
        -------
        Tensor, csr_array, coo_array, ndarray, or a tuple of them
            The result, or all if there are several; each as `Chip.compute` returns it.

        Raises
        ------
        ValueError, TypeError
            For a wrong input, before the start.
        ChipError
            If the chip stops with an error.
        """
        if len(inputs) > len(self.inputs):
            raise TypeError(f"{len(inputs)} inputs: expected up to {len(self.inputs)}")
        found = self.run(**dict(zip(self.inputs, inputs, strict=False)))
        results = tuple(found[name] for name in self.results)
        return results[0] if len(results) == 1 else results

    @abstractmethod
    def run(self, **named: Any) -> dict[str, Any]:
        """Run with these inputs; return the results by name.

        Raises
        ------
        ValueError, TypeError, ChipError
            As for a call.
        """

    @property
    @abstractmethod
    def contents(self) -> Contents:
        """What it consists of."""

    def export(self, path: str | Path) -> tuple[Path, ...]:
        """Write the program for firmware: a flat image of memory that the C driver loads
        (`sw/driver`), with its inputs and results by name.

        Returns
        -------
        tuple of Path
            The files: one if the program runs in one start. Otherwise one for each start, numbered
            by ``-1``, ``-2``, ...; what the host does between them is left to the firmware, and
            listed in a C header beside them, of the same name with ``.h``.

        Raises
        ------
        ValueError
            If a kernel's loops or memory depend on the run, or only a library of Python computes an
            operator; the message names it.
        """
        return write_images(path, self.contents)

    @property
    @abstractmethod
    def text(self) -> str:
        """The statements."""

    @property
    @abstractmethod
    def expected(self) -> Mapping[str, float]: ...

    @property
    def report(self) -> RunReport | None:
        layers = self.layers
        if not layers:
            return None
        return combine_layers(self.text, layers, list(self.contents.cuts.values()))

    @property
    def layers(self) -> Mapping[str, RunReport]:
        return self._reports.value or {}

    @property
    def measured(self) -> Mapping[str, int]:
        reports = self.layers.items()
        return {name: report.cycles for name, report in reports if report.cycles is not None}

    @property
    def cycles(self) -> Mapping[str, float]:
        return {**self.expected, **self.measured}
