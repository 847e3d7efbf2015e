"""A loop nest's settings, and the tokens that run through it, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.descriptor import CellMode, LeafMode, Op, Reduction, ResultMode
from loopnest_hw.registers import ErrorCode

from .faults import ModelError

Words = NDArray[np.uint32]
Indices = NDArray[np.int64]

LINE_MASK = ~(LINE_BYTES - 1)
"""A level's arrays start at lines; the low bits of their addresses are ignored."""


@dataclass(frozen=True)
class Cell:
    """An operand's cell, with the addresses of its scanner."""

    mode: CellMode
    ones: bool
    step: int
    open: bool
    table: int
    blocks: int

    @property
    def scans(self) -> bool:
        """The join input reads memory."""
        return self.mode is CellMode.SCAN and not self.ones

    @property
    def joins(self) -> bool:
        """The cell has a join input."""
        return self.mode is CellMode.SCAN or self.ones


@dataclass(frozen=True)
class Row:
    """A loop. ``block_keep`` and ``lane_keep`` are its tables by presence pattern."""

    number: int
    bypass: bool
    block_keep: NDArray[np.bool_]
    lane_keep: NDArray[np.bool_]
    result_mode: ResultMode
    result_step: int
    size: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Operand:
    """A tensor's values and its start position."""

    used: bool
    wide: bool
    negate: bool
    start: int
    values: int


@dataclass(frozen=True)
class Nest:
    """A kernel descriptor's fields, except the result's."""

    config: ChipConfig
    rows: tuple[Row, ...]
    operands: tuple[Operand, ...]
    leaf_mode: LeafMode
    accumulate: bool
    copies: int
    drain_stop: int
    op1: Op
    op2: Op
    reduction: Reduction

    @property
    def replayable(self) -> bool:
        """Each result fiber belongs to one row-0 token."""
        return self.drain_stop == sum(not row.bypass for row in self.rows[1:])

    @classmethod
    def of(cls, config: ChipConfig, descriptor: Mapping[str, int]) -> "Nest":
        """Return the nest of an unpacked descriptor. The other fields of a bypassed row are
        ignored.

        Raises
        ------
        ModelError
            ``BAD_DESCRIPTOR`` for an undefined value.
        """
        d = descriptor
        patterns = np.arange(config.table_bits)

        def table(path: str) -> NDArray[np.bool_]:
            return (d[path] >> patterns & 1).astype(np.bool_)

        def cell(r: int, o: int) -> Cell:
            path = f"row.{r}.cell.{o}"
            scan = f"scanner.{d[path + '.scanner']}" if r else f"dispatch.{o}"
            mode = CellMode.HOLD if d[f"row.{r}.bypass"] else CellMode(d[path + ".mode"])
            scans = mode is CellMode.SCAN
            return Cell(
                mode=mode,
                ones=bool(d[path + ".ones"]),
                step=d[path + ".step"],
                open=bool(scans and d[scan + ".open"]),
                table=d[scan + ".table"] & LINE_MASK if scans else 0,
                blocks=d[scan + ".blocks"] & LINE_MASK if scans else 0,
            )

        try:
            return cls(
                config=config,
                rows=tuple(
                    Row(
                        number=r,
                        bypass=bool(d[f"row.{r}.bypass"]),
                        block_keep=table(f"row.{r}.block_table"),
                        lane_keep=table(f"row.{r}.lane_table"),
                        result_mode=ResultMode(
                            ResultMode.HOLD if d[f"row.{r}.bypass"] else d[f"row.{r}.result_mode"]
                        ),
                        result_step=d[f"row.{r}.result_step"],
                        size=d[f"row.{r}.size"],
                        cells=tuple(cell(r, o) for o in range(config.operands)),
                    )
                    for r in range(config.rows)
                ),
                operands=tuple(
                    Operand(
                        used=bool(d[f"operand.{o}.used"]),
                        wide=bool(d[f"operand.{o}.wide"]),
                        negate=bool(d[f"operand.{o}.negate"]),
                        start=d[f"operand.{o}.start"],
                        values=d[f"operand.{o}.values"],
                    )
                    for o in range(config.operands)
                ),
                leaf_mode=LeafMode(d["leaf_mode"]),
                accumulate=bool(d["accumulate"]),
                copies=d["copies"],
                drain_stop=d["drain_stop"],
                op1=Op(d["op1"]),
                op2=Op(d["op2"]),
                reduction=Reduction(d["reduction"]),
            )
        except (ValueError, KeyError) as bad:
            raise ModelError(ErrorCode.BAD_DESCRIPTOR, 0) from bad


@dataclass
class Tokens:
    """Some tokens of a row, in order, with an array for each field.

    A null token has no operand present; it has the fiber and the key of the token whose fiber was
    empty.
    """

    position: list[Words]
    present: NDArray[np.uint8]
    fiber: Words
    key: Words
    stop: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.stop)

    def part(self, begin: int, end: int) -> "Tokens":
        """Return the tokens from ``begin`` to before ``end``."""
        return Tokens(
            [p[begin:end] for p in self.position],
            self.present[begin:end],
            self.fiber[begin:end],
            self.key[begin:end],
            self.stop[begin:end],
        )


def root(nest: Nest, result_start: int) -> Tokens:
    """Return the first token of a nest."""
    used = sum(operand.used << o for o, operand in enumerate(nest.operands))
    return Tokens(
        position=[np.array([operand.start], np.uint32) for operand in nest.operands],
        present=np.array([used], np.uint8),
        fiber=np.array([result_start], np.uint32),
        key=np.zeros(1, np.uint32),
        stop=np.zeros(1, np.uint8),
    )
