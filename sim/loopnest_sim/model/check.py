"""The rules that a kernel descriptor must obey (hw chip/check.py)."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from loopnest_hw.config import (
    ADDRESS_BITS,
    COORDINATE_BITS,
    LANES,
    LINE_BYTES,
    MAX_LOG2_COPIES,
    PAIR_COORDINATES,
    ChipConfig,
)
from loopnest_hw.descriptor import MAGIC, PREFETCHES, CellMode, LeafMode, Op, Reduction, ResultMode
from loopnest_hw.format import WORD_BYTES
from loopnest_hw.registers import snapshot_lines


def contradictions(config: ChipConfig, kernel: Mapping[str, int]) -> Iterator[str]:
    """Yield what is wrong with a descriptor, given as `descriptor.unpack` returns it.

    A descriptor with any contradiction is refused with `ErrorCode.BAD_DESCRIPTOR`.
    """
    if kernel["magic"] != MAGIC:
        yield f"magic={kernel['magic']:#06x}: expected {MAGIC:#06x}"
    for path, limit in (
        ("leaf_mode", len(LeafMode) - 1),
        ("op1", len(Op) - 1),
        ("op2", len(Op) - 1),
        ("reduction", len(Reduction) - 1),
        ("copies", MAX_LOG2_COPIES),
        ("drain_stop", sum(not kernel[f"row.{r}.bypass"] for r in range(config.rows))),
        ("result.size", 1 << COORDINATE_BITS),
        ("epilogue.bias_mode", 2),
        ("epilogue.scale_mode", 2),
    ):
        if kernel[path] > limit:
            yield f"{path}={kernel[path]}: expected 0 to {limit}"
    if kernel["copies"] and not kernel["accumulate"]:
        yield f"copies={kernel['copies']}: expected 0 with accumulate=0"
    for path in ("result.table", "result.blocks", "result.values"):
        if kernel[path] % LINE_BYTES:
            yield f"{path}={kernel[path]:#x}: expected a multiple of {LINE_BYTES}"
    for o in range(config.operands):
        wide = kernel[f"operand.{o}.wide"]
        size = WORD_BYTES if wide else config.dtype.narrow_bytes
        if kernel[f"operand.{o}.values"] % size:
            values = kernel[f"operand.{o}.values"]
            yield f"operand.{o}.values={values:#x}: expected a multiple of {size}"
    for path in ("epilogue.bias", "epilogue.scale"):
        if kernel[path] % WORD_BYTES:
            yield f"{path}={kernel[path]:#x}: expected a multiple of {WORD_BYTES}"
    for s in range(config.pool_streams):
        base, last = kernel[f"ring.{s}.base"], kernel[f"ring.{s}.last"]
        if base > last:
            yield f"ring.{s}: first line {base} is above its last line {last}"
        if s and base <= kernel[f"ring.{s - 1}.last"]:
            yield f"ring.{s}: first line {base} is not above the ring before"
    if kernel["counters"] % LINE_BYTES:
        yield f"counters={kernel['counters']:#x}: expected a multiple of {LINE_BYTES}"
    elif (
        kernel["counters"] + (lines := snapshot_lines(config.pes)) * LINE_BYTES > 1 << ADDRESS_BITS
    ):
        yield f"counters={kernel['counters']:#x}: expected {lines} lines of memory"
    yield from _regions(config, kernel)
    yield from _prefetch(config, kernel)
    yield from _share(config, kernel)

    leaf = f"row.{config.rows - 1}"
    for row in ("row.0", leaf):
        if kernel[f"{row}.bypass"]:
            yield f"{row}.bypass=1: expected 0 in the first row and the leaf"
    for r in range(config.rows - 1):
        row = f"row.{r}"
        step = kernel[f"{row}.result_step"]
        if kernel["leaf_mode"] != LeafMode.AXPY or kernel[f"{row}.bypass"]:
            continue
        if kernel[f"{row}.result_mode"] == ResultMode.KEY and step % LANES:
            yield f"{row}.result_step={step}: expected a multiple of {LANES} with AXPY"
    mode, step = kernel[f"{leaf}.result_mode"], kernel[f"{leaf}.result_step"]
    if kernel["leaf_mode"] == LeafMode.AXPY and (mode != ResultMode.KEY or step != 1):
        yield f"{leaf}.result_mode={mode}, result_step={step}: expected KEY, 1 with AXPY"
    if kernel["leaf_mode"] == LeafMode.DOT and mode != ResultMode.HOLD:
        yield f"{leaf}.result_mode={mode}: expected HOLD with DOT"

    owner: dict[int, str] = {}
    for r in range(config.rows):
        if kernel[f"row.{r}.bypass"]:
            continue
        yield from _row(config, kernel, r)
        for o in range(config.operands):
            cell = f"row.{r}.cell.{o}"
            if r == 0 or kernel[f"{cell}.mode"] != CellMode.SCAN:
                continue
            scanner = kernel[f"{cell}.scanner"]
            if scanner >= config.scanners:
                yield f"{cell}.scanner={scanner}: expected 0 to {config.scanners - 1}"
            if scanner in owner:
                yield f"{cell}.scanner={scanner}: already used by {owner[scanner]}"
            owner[scanner] = cell


REGIONS = ("blocks", "values", "table", "counters")
"""What a kernel writes, by its number in an error's ``where``."""


def result_regions(kernel: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return first address and end of each region of a kernel's result, by name."""
    names = ("blocks", "values", "table") if kernel["result.compressed"] else ("values",)
    return {n: (kernel[f"result.{n}"], kernel[f"result.{n}_end"]) for n in names}


def regions(config: ChipConfig, kernel: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return first address and end of each region that a kernel writes, by name."""
    found = result_regions(kernel)
    if kernel["counters"]:
        size = snapshot_lines(config.pes) * LINE_BYTES
        found["counters"] = kernel["counters"], kernel["counters"] + size
    return found


def _regions(config: ChipConfig, kernel: Mapping[str, int]) -> Iterator[str]:
    found = regions(config, kernel)
    for name, (begin, end) in found.items():
        if begin > end:
            yield f"result.{name}_end={end:#x}: expected at least {begin:#x}, its begin"
    for (one, (begin, end)), (other, (other_begin, other_end)) in combinations(found.items(), 2):
        if end > other_begin and other_end > begin:
            yield f"result.{one}: overlaps {'' if other == 'counters' else 'result.'}{other}"


def _prefetch(config: ChipConfig, kernel: Mapping[str, int]) -> Iterator[str]:
    for n in range(PREFETCHES if config.cached else 0):
        lines = kernel[f"prefetch.{n}.lines"]
        first = kernel[f"prefetch.{n}.address"] // LINE_BYTES * LINE_BYTES
        behind = first + lines * LINE_BYTES
        if behind > 1 << ADDRESS_BITS:
            yield f"prefetch.{n}: {lines} lines from {first:#x} on are beyond the memory's end"
        for name, (begin, end) in regions(config, kernel).items():
            if lines and first < end and begin < behind:
                yield f"prefetch.{n}: overlaps {name}, which the kernel writes"


def _share(config: ChipConfig, kernel: Mapping[str, int]) -> Iterator[str]:
    if config.pes == 1:
        return
    if head := kernel["share.head"]:
        if not kernel["share.rows"]:
            yield f"share.head={head}: expected 0, since share.rows is 0"
        elif kernel["row.0.result_mode"] != ResultMode.FIBER:
            yield f"share.head={head}: expected 0, since row.0.result_mode is not FIBER"
        elif any(kernel[f"row.0.cell.{o}.mode"] == CellMode.SCAN for o in range(config.operands)):
            yield f"share.head={head}: expected 0, since a cell of row 0 scans"
        elif PAIR_COORDINATES * head >= kernel["row.0.size"]:
            yield f"share.head={head}: has all of row.0.size={kernel['row.0.size']}"
    if not kernel["share.rows"]:
        return
    mode = kernel["row.0.result_mode"]
    loops = sum(not kernel[f"row.{r}.bypass"] for r in range(1, config.rows))
    if mode == ResultMode.FIBER and kernel["drain_stop"] > loops:
        yield f"share.rows: a result fiber ends with a stop of {kernel['drain_stop']}, above row 0"
    if mode == ResultMode.KEY and (kernel["result.compressed"] or kernel["result.full"]):
        yield "share.rows: coordinates of row 0 are in one result fiber, compressed or full"
    if mode == ResultMode.HOLD or not kernel["row.0.result_step"]:
        yield "share.rows: coordinates of row 0 are added"


def _row(config: ChipConfig, kernel: Mapping[str, int], r: int) -> Iterator[str]:
    row = f"row.{r}"
    if kernel[f"{row}.result_mode"] >= len(ResultMode):
        yield f"{row}.result_mode={kernel[f'{row}.result_mode']}: expected a ResultMode"
    if kernel[f"{row}.size"] > 1 << COORDINATE_BITS:
        yield f"{row}.size={kernel[f'{row}.size']}: expected 0 to 2^{COORDINATE_BITS}"
    join_inputs = ones = 0
    for o in range(config.operands):
        mode, is_ones = kernel[f"{row}.cell.{o}.mode"], kernel[f"{row}.cell.{o}.ones"]
        if mode >= len(CellMode):
            yield f"{row}.cell.{o}.mode={mode}: expected a CellMode"
        if mode == CellMode.SCAN and is_ones:
            yield f"{row}.cell.{o}: scans and is the all-ones fiber"
        join_inputs += mode == CellMode.SCAN or bool(is_ones)
        ones += is_ones
    if not join_inputs:
        yield f"{row}: no cell scans or is the all-ones fiber"
    if ones > 1:
        yield f"{row}: {ones} cells are the all-ones fiber, expected one"
