"""Programs from files, which run without being planned again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..expression.operand import Operand
from .contents import Contents, execute_contents
from .device import Device
from .runnable import Runnable
from .saved import read_program


class SavedProgram(Runnable):
    """A program from a file (`loopnest.load`). Runs take tensors of the shapes, kinds, and values
    that it was compiled for, with up to twice the entries; printed, it shows the kernels' loops.

    Raises
    ------
    ValueError
        If the file is damaged, or for another chip (`read_program`).
    OSError
        If it cannot be read.
    """

    def __init__(self, device: Device, path: str | Path) -> None:
        super().__init__(device)
        self._contents = read_program(path, device.config)
        self.inputs = tuple(self._contents.inputs)
        self.results = self._contents.results

    def run(self, **named: Any) -> dict[str, Any]:
        self._reports.value = {}
        inputs = dict(self._contents.inputs)
        for name, source in named.items():
            if name not in inputs:
                raise TypeError(f"input {name!r}: expected one of {', '.join(self.inputs)}")
            old, inputs[name] = inputs[name], Operand(name, source, self._device.config.dtype)
            if inputs[name].shape != old.shape:
                raise ValueError(f"{name} has shape {inputs[name].shape}: expected {old.shape}")
        values = self._contents.values(inputs)
        found, self._reports.value = execute_contents(self._device, self._contents, values)
        return found

    @property
    def contents(self) -> Contents:
        return self._contents

    @property
    def expected(self) -> Mapping[str, float]:
        return self._contents.expected

    @property
    def text(self) -> str:
        return self._contents.text

    def __str__(self) -> str:
        return self._contents.explanation
