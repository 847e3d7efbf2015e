"""Programs in files: a zip of a JSON header and NumPy arrays."""

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from errno import EINVAL
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ChipConfig, NumberFormat

from ..formats.pack import COMPRESSED, CompressedLevel
from ..formats.tensor import Tensor
from ..kernel.lower import Kernel
from ..loops.outline import outline
from .chain import root
from .codec import Decoder, Encoder, NotPlainError
from .contents import Bound, Contents, Layer, Outcome
from .device import configuration, mismatch
from .image import Image, Region
from .operands import OperandEncoder, make_operands
from .start import Stage, Start
from .steps import HostStep, KernelStep

FORMAT = "loopnest program"
VERSION = 8
"""Of the files that `write_program` writes; others are refused."""

HEADER = "program.json"

DAMAGES = (
    BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,  # of a zip that says it is encrypted, or packed otherwise
)
"""What reading a damaged file raises."""

DAMAGED = "truncated or damaged, or no program that Loopnest has saved"

SAMPLE = 1 << 15
"""Bytes of an array from which it is told whether it is worth compressing."""

WORTH = 0.6
"""Share of its bytes below which an array is stored compressed."""


def write_program(path: str | Path, contents: Contents) -> None:
    """Write a program to a file.

    Raises
    ------
    ValueError
        If a step cannot be saved; the message names it.
    """
    path = Path(path)
    encoder = Encoder()
    try:
        header = _Writer(contents, encoder).header()
    except NotPlainError as error:
        raise ValueError(f"{path}: {error}") from None
    with ZipFile(path, "w") as file:
        _write(file, HEADER, json.dumps(header, ensure_ascii=False).encode())
        for number, array in enumerate(encoder.arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
            _write(file, _array_name(number), buffer.getbuffer())


def _array_name(number: int) -> str:
    return f"arrays/{number}.npy"


def _write(file: ZipFile, name: str, data: Any) -> None:
    """Write a member; the same bytes each time."""
    info = ZipInfo(name)
    sample = bytes(data[:SAMPLE])
    pays = len(zlib.compress(sample, 1)) < WORTH * len(sample)
    info.compress_type = ZIP_DEFLATED if pays else ZIP_STORED
    file.writestr(info, data, compresslevel=1)


class _Writer:
    def __init__(self, contents: Contents, encoder: Encoder) -> None:
        self._contents, self._encoder = contents, encoder
        self._stages = needed_stages(contents)
        read = {
            root(o) for stage in self._stages if isinstance(stage, HostStep) for o in stage.operands
        }
        read |= {root(outcome.operand) for outcome in contents.outcomes.values()}
        for mask in (bound.mask for bound in contents.bound if bound.mask):
            read.add(contents.others.get(mask) or contents.inputs[mask])
        self._operands = OperandEncoder(encoder, read)

    def header(self) -> dict[str, Any]:
        contents, number = self._contents, self._operands.number
        found = {
            "format": FORMAT,
            "version": VERSION,
            "chip": configuration(contents.config),
            "text": contents.text,
            "explanation": contents.explanation,
            "stages": [self._stage(stage) for stage in self._stages],
            "inputs": [[name, number(o)] for name, o in contents.inputs.items()],
            "others": [[name, number(o)] for name, o in contents.others.items()],
            "bound": [self._bound(bound) for bound in contents.bound],
            "outcomes": [
                [name, number(o.operand), o.levels, o.as_tensor]
                for name, o in contents.outcomes.items()
            ],
            "results": contents.results,
            "cuts": list(contents.cuts.items()),
            "layers": [
                [layer.name, layer.statement, list(map(number, layer.results)), layer.cycles]
                for layer in contents.layers
            ],
        }
        return found | {"operands": self._operands.table}

    def _bound(self, bound: Bound) -> dict[str, Any]:
        return {
            "text": bound.text,
            "semiring": bound.semiring,
            "sizes": self._encoder.encode(bound.sizes),
            "operands": list(map(self._operands.number, bound.operands)),
            "fixed": sorted(bound.fixed),
        }

    def _stage(self, stage: Stage) -> dict[str, Any]:
        number = self._operands.number
        if isinstance(stage, Start):
            return {
                "kind": "start",
                "operands": list(map(number, stage.operands)),
                "results": list(map(number, stage.results)),
                "image": self._image(stage.image),
            }
        if isinstance(stage, KernelStep):
            raise NotPlainError(
                f"the kernel {stage.plan.statement} may take other loops, or more memory than is "
                f"reserved, as the run turns out: expected one that a list of kernels takes"
            )
        try:
            apply = self._encoder.encode(stage.apply)
        except NotPlainError as error:
            raise NotPlainError(f"the host's step {stage.what!r}: {error}") from None
        return {
            "kind": "host",
            "what": stage.what,
            "operands": list(map(number, stage.operands)),
            "result": number(stage.result),
            "apply": apply,
        }

    def _image(self, image: Image) -> dict[str, Any]:
        array = self._encoder.array
        return {
            "end": image.end,
            "columns": image.columns,
            "constants": [[address, array(data)] for address, data in image.constants],
            "kernels": [self._kernel(kernel) for kernel in image.kernels],
            "regions": [self._region(region) for region in image.regions],
        }

    def _kernel(self, kernel: Kernel) -> dict[str, Any]:
        return {
            "fields": dict(kernel.fields),
            "plan": self._encoder.encode(outline(kernel.plan)),
            "operands": [self._encoder.encode(placed) for placed in kernel.tensors],
            "narrow": kernel.narrow,
            "capacity": kernel.capacity,
            "most": kernel.most,
        }

    def _region(self, region: Region) -> dict[str, Any]:
        encode, default = self._encoder.encode, region.default
        arrays = None if default is None else [array for _, array in region.segments(default)]
        return {
            "operand": self._operands.number(region.operand),
            "shape": region.shape,
            "levels": region.levels,
            "mode_order": region.mode_order,
            "wide": region.wide,
            "neutral": region.neutral,
            "entries": region.entries,
            "default": None if arrays is None else list(map(self._encoder.array, arrays)),
            "placed": encode(region.placed),
        }


def needed_stages(contents: Contents) -> list[Stage]:
    """Return the stages without what the host makes of constants alone, whose result is where it
    is needed.
    """
    varying = set(contents.inputs.values())
    for bound in contents.bound:
        for name, operand in zip(bound.names, bound.operands, strict=True):
            if name in contents.inputs:
                varying |= {operand, root(operand)}
    found = []
    for stage in contents.stages:
        if isinstance(stage, HostStep) and stage.result.known:
            if not any(o in varying or root(o) in varying for o in stage.operands):
                continue
            varying.add(stage.result)
        found.append(stage)
    return found


def read_program(path: str | Path, config: ChipConfig) -> Contents:
    """Read a program for a chip from a file.

    Raises
    ------
    ValueError
        If it is no program, truncated or damaged, of another version, or for another chip; the
        message names the cause.
    OSError
        If the file cannot be read.
    """
    with _opened(path) as file:
        header = json.loads(file.read(HEADER))
        _check_header(header, config)
        return _Reader(file, header, config).contents()


def saved_configuration(path: str | Path) -> ChipConfig:
    """Return the configuration of the chip that a saved program is for.

    Raises
    ------
    ValueError, OSError
        As `read_program`.
    """
    with _opened(path) as file:
        own = dict(json.loads(file.read(HEADER))["chip"])
        return ChipConfig(**own | {"dtype": NumberFormat(own["dtype"])})


@contextmanager
def _opened(path: str | Path) -> Iterator[ZipFile]:
    """Open a saved program; what its reader raises, and what tells that it is damaged, becomes an
    error that names the file.
    """
    try:
        with ZipFile(path) as file:
            yield file
    except UnfitError as error:
        raise ValueError(f"{path}: {error}") from None
    except DAMAGES as error:
        raise ValueError(f"{path}: {DAMAGED}: {error}") from None
    except OSError as error:
        if error.errno != EINVAL:
            raise
        # a member before the file's begin
        raise ValueError(f"{path}: {DAMAGED}: {error}") from None


class UnfitError(Exception):
    """A sound file that cannot be used here; the message says why."""


def _check_header(header: Mapping[str, Any], config: ChipConfig) -> None:
    if header["format"] != FORMAT:
        raise ValueError(f"{header['format']!r}: expected {FORMAT!r}")
    if header["version"] != VERSION:
        raise UnfitError(
            f"version {header['version']} of saved programs: expected {VERSION}; compile it again"
        )
    cause = mismatch(header["chip"], config)
    if cause is not None:
        raise UnfitError(cause)


class _Reader:
    def __init__(self, file: ZipFile, header: Mapping[str, Any], config: ChipConfig) -> None:
        self._file, self._header, self._config = file, header, config
        self._arrays: dict[int, NDArray[Any]] = {}
        self._decoder = Decoder(self._array)
        self._operands = make_operands(header["operands"], self._decoder, config.dtype)

    def _array(self, number: int) -> NDArray[Any]:
        if number not in self._arrays:
            data = io.BytesIO(self._file.read(_array_name(number)))
            self._arrays[number] = np.lib.format.read_array(data, allow_pickle=False)
        return self._arrays[number]

    def contents(self) -> Contents:
        header, operands = self._header, self._operands
        return Contents(
            config=self._config,
            text=header["text"],
            explanation=header["explanation"],
            inputs={name: operands[n] for name, n in header["inputs"]},
            others={name: operands[n] for name, n in header["others"]},
            bound=[self._bound(of) for of in header["bound"]],
            layers=[
                Layer(name, statement, tuple(operands[n] for n in results), cycles)
                for name, statement, results, cycles in header["layers"]
            ],
            outcomes={
                name: Outcome(operands[n], None if levels is None else tuple(levels), as_tensor)
                for name, n, levels, as_tensor in header["outcomes"]
            },
            results=tuple(header["results"]),
            stages=[self._stage(of) for of in header["stages"]],
            cuts=dict(header.get("cuts", ())),
        )

    def _bound(self, of: Mapping[str, Any]) -> Bound:
        return Bound(
            of["text"],
            of["semiring"],
            self._decoder.decode(of["sizes"]),
            tuple(self._operands[n] for n in of["operands"]),
            frozenset(of["fixed"]),
        )

    def _stage(self, of: Mapping[str, Any]) -> Stage:
        operands = tuple(self._operands[n] for n in of["operands"])
        if of["kind"] == "host":
            result = self._operands[of["result"]]
            return HostStep(of["what"], operands, result, self._decoder.decode(of["apply"]))
        results = [self._operands[n] for n in of["results"]]
        return Start(operands, results, image=self._image(of["image"]))

    def _image(self, of: Mapping[str, Any]) -> Image:
        return Image(
            tuple(map(self._kernel, of["kernels"])),
            tuple(map(tuple, of["columns"])),
            tuple(map(self._region, of["regions"])),
            [(address, self._array(n)) for address, n in of["constants"]],
            of["end"],
        )

    def _kernel(self, of: Mapping[str, Any]) -> Kernel:
        decode = self._decoder.decode
        return Kernel(
            of["fields"],
            [],
            decode(of["plan"]),
            tuple(map(decode, of["operands"])),
            of["narrow"],
            of["capacity"],
            of["most"],
        )

    def _region(self, of: Mapping[str, Any]) -> Region:
        region = Region(
            self._operands[of["operand"]],
            tuple(of["shape"]),
            tuple(of["levels"]),
            tuple(of["mode_order"]),
            of["wide"],
            of["neutral"],
            of["entries"],
            None,
            self._decoder.decode(of["placed"]),
        )
        if of["default"] is None:
            return region
        at = iter([self._array(n) for n in of["default"]])
        arrays = [
            CompressedLevel(next(at), next(at)) if kind == COMPRESSED else None
            for kind in region.levels
        ]
        default = Tensor.unchecked(
            region.shape,
            region.levels,
            arrays,
            next(at),
            dtype=self._config.dtype,
            wide=region.wide,
            mode_order=region.mode_order,
        )
        return replace(region, default=default)
