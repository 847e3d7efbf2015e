"""Random nests that the compiler would not generate: any legal descriptor, on any levels and
values.
"""

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import PAIR_COORDINATES, ChipConfig, NumberFormat
from loopnest_hw.descriptor import CellMode, LeafMode, ResultMode, pack, unpack
from loopnest_sim.image import Image

from .tensors import rings

ARRAY_ROOM = 1 << 16
FIBERS = 12
LEVEL_BLOCKS = 5
POSITIONS = 4000
OUTPUT = 1 << 22
SHARED_ROOM = 64
"""Room of a fiber of a result that several PEs write, in the descriptor's units."""


def random_level(rng: np.random.Generator, image: Image, address: int, is_open: bool) -> None:
    """Write a table and block words of random fibers; positions beyond them are empty fibers."""
    words: list[int] = []
    entries = []
    for _ in range(FIBERS):
        first = len(words)
        blocks = sorted(rng.choice(LEVEL_BLOCKS, rng.integers(0, 5), replace=False))
        dense = rng.random() < 0.3
        for b in blocks:
            mask = 0xFFFF if dense else int(rng.integers(1, 1 << 16) & rng.integers(0, 1 << 16))
            words.append(int(b) << 16 | (mask or 1 << int(rng.integers(16))))
        entries.append((first, int(rng.integers(0, 6)), len(words)))
    if is_open:
        table = [word for i in rng.permutation(FIBERS) for word in (*entries[i], 0)]
    else:
        table = [word for entry in entries for word in entry[:2]]
        table += [len(words), 0] * POSITIONS
    image.write(address, np.array(table, np.uint32))
    image.write(address + ARRAY_ROOM, np.array(words, np.uint32))


def random_kernel(rng: np.random.Generator, config: ChipConfig) -> tuple[Image, dict[str, int]]:
    """Return a memory with tensors, and a descriptor of any legal nest on them."""
    image = Image()
    d: dict[str, int] = {"op1": int(rng.integers(3)), "op2": int(rng.integers(3))}
    d["leaf_mode"] = mode = int(rng.integers(3))
    table = 0
    scanner = 0
    leaf = config.rows - 1
    bypassed = {r for r in range(1, leaf) if rng.random() < 0.4}
    for o in range(config.operands):
        d[f"operand.{o}.used"] = int(o == 0 or rng.random() < 0.8)
        d[f"operand.{o}.wide"] = int(rng.random() < 0.3)
        d[f"operand.{o}.negate"] = int(rng.random() < 0.2)
        d[f"operand.{o}.start"] = int(rng.integers(3))
    for r in range(config.rows):
        row = f"row.{r}"
        d[f"{row}.bypass"] = int(r in bypassed)
        d[f"{row}.block_table"] = int(rng.integers(1 << config.table_bits))
        d[f"{row}.lane_table"] = int(rng.integers(1 << config.table_bits))
        if rng.random() < 0.7:  # mostly kept lanes in every row
            d[f"{row}.block_table"] |= (1 << config.table_bits) - 2
            d[f"{row}.lane_table"] |= 1 << config.table_bits - 1 | 1 << 1
        d[f"{row}.size"] = int(rng.choice([0, 1, 3, 15, 16, 17, 40], p=[0.04] + [0.16] * 6))
        joins = scans = False
        for o in range(config.operands):
            cell = f"{row}.cell.{o}"
            d[f"{cell}.mode"] = int(rng.integers(3))
            d[f"{cell}.step"] = int(rng.integers(3))
            if d[f"{cell}.mode"] != CellMode.SCAN:
                continue
            if r and (scanner == config.scanners or r in bypassed):
                d[f"{cell}.mode"] = CellMode.FOLLOW
                continue
            joins = scans = True
            scan = f"scanner.{scanner}" if r else f"dispatch.{o}"
            if r:
                d[f"{cell}.scanner"] = scanner
                scanner += 1
            d[f"{scan}.open"] = int(rng.random() < 0.5)
            d[f"{scan}.table"] = table
            d[f"{scan}.blocks"] = table + ARRAY_ROOM
            random_level(rng, image, table, bool(d[f"{scan}.open"]))
            table += 2 * ARRAY_ROOM
        if scans:
            d[f"{row}.size"] = LEVEL_BLOCKS * 16
        free = [o for o in range(config.operands) if d[f"{row}.cell.{o}.mode"] != CellMode.SCAN]
        if free and (not joins or rng.random() < 0.2):
            d[f"{row}.cell.{rng.choice(free)}.ones"] = 1
        d[f"{row}.result_mode"] = int(rng.integers(3)) if r < leaf else ResultMode.HOLD
        d[f"{row}.result_step"] = int(rng.integers(1, 50))
    if mode == LeafMode.AXPY:
        d |= {f"row.{leaf}.result_mode": int(ResultMode.KEY), f"row.{leaf}.result_step": 1}
        for r in range(leaf):
            d[f"row.{r}.result_step"] *= 16
    elif mode == LeafMode.SCATTER:
        d[f"row.{leaf}.result_mode"] = int(rng.choice([ResultMode.HOLD, ResultMode.KEY]))
    loops = config.rows - len(bypassed)
    d["drain_stop"] = int(rng.integers(1, loops + 1))
    d["accumulate"] = int(d["drain_stop"] > 1 or mode == LeafMode.SCATTER or rng.random() < 0.5)
    d["copies"] = d["accumulate"] and int(rng.choice([0, 0, 1, 2]))

    for o in range(config.operands):
        d[f"operand.{o}.values"] = table
        if config.dtype is NumberFormat.INT8:
            image.write(table, rng.integers(0, 256, 1 << 14, np.uint8))
        else:
            bits = rng.standard_normal(1 << 12).astype(np.float32).view(np.uint32)
            wide = d[f"operand.{o}.wide"]
            image.write(table, bits if wide else (bits >> 16).astype(np.uint16))
        if config.dtype is NumberFormat.INT8 and d[f"operand.{o}.wide"]:
            image.write(table, rng.integers(-99, 99, 1 << 12).astype(np.int32))
        table += ARRAY_ROOM
    d |= random_epilogue(rng, config, image, table)
    d |= rings(config)
    d |= {
        "result.compressed": int(rng.random() < 0.6),
        "result.full": int(rng.random() < 0.2),
        "result.size": int(rng.choice([0, 7, 16, 100])),
        "result.start": int(rng.integers(4)),
        "result.table": OUTPUT,
        "result.table_end": 2 * OUTPUT,
        "result.blocks": 2 * OUTPUT,
        "result.blocks_end": 3 * OUTPUT,
        "result.values": 3 * OUTPUT,
        "result.values_end": 8 * OUTPUT,
    }
    if rng.random() < 0.2:
        d["result.blocks_end"] = d["result.blocks"] + int(rng.integers(60))
    if rng.random() < 0.2:
        d["result.values_end"] = d["result.values"] + int(rng.integers(200))
    if config.pes > 1:
        d |= random_share(rng, d, loops)
    d = renumber_scanners(rng, config, d)
    return image, unpack(config, pack(config, {k: int(v) for k, v in d.items()}))


def random_share(rng: np.random.Generator, d: dict[str, int], loops: int) -> dict[str, int]:
    """Return the ``share`` fields of a nest with so many loops, for most that can be shared."""
    mode = d["row.0.result_mode"]
    fibers = mode == ResultMode.FIBER and d["drain_stop"] < loops
    keys = mode == ResultMode.KEY and not (d["result.compressed"] or d["result.full"])
    if not (fibers or keys) or rng.random() < 0.2:
        return {}
    found = {
        "share.rows": 1,
        "share.wide": int(rng.integers(2)),
        "share.quantum": int(rng.choice([0, 1, 4, 30])),
        "share.credit": int(rng.choice([0, 1, 10, 60])),
        "share.fiber_values": SHARED_ROOM,
        "share.fiber_blocks": SHARED_ROOM,
    }
    modes = [
        value
        for path, value in d.items()
        if path.startswith("row.0.cell.") and path.endswith("mode")
    ]
    if CellMode.SCAN not in modes and fibers and rng.random() < 0.5:
        d["row.0.size"] = int(rng.choice([33, 70, 100, 150]))
        pairs = -(-d["row.0.size"] // PAIR_COORDINATES)
        found |= {
            "share.head": int(rng.integers(min(3, pairs))),
            "share.between": int(rng.integers(3)),
        }
    if d["result.compressed"]:
        found |= {"result.blocks_end": 3 * OUTPUT, "result.values_end": 8 * OUTPUT}
    return found


def renumber_scanners(
    rng: np.random.Generator, config: ChipConfig, fields: dict[str, int]
) -> dict[str, int]:
    """Return the descriptor with its scanners in any order: the rows' cells name them."""
    number = rng.permutation(config.scanners)
    out = {}
    for path, value in fields.items():
        first, _, rest = path.partition(".")
        if first == "scanner":
            scanner, _, setting = rest.partition(".")
            path = f"scanner.{number[int(scanner)]}.{setting}"
        out[path] = int(number[value]) if path.endswith(".scanner") else value
    return out


def random_epilogue(
    rng: np.random.Generator, config: ChipConfig, image: Image, address: int
) -> dict[str, int]:
    """Return an epilogue's settings, with its arrays at the address; mostly disabled."""
    integer = config.dtype is NumberFormat.INT8
    shift = int(rng.integers(0, 40)) if integer else 0

    def word(x: float) -> int:
        number = np.int32(x) if integer else np.float32(x)
        return int(number.view(np.uint32))

    def words() -> NDArray[np.uint32]:
        return np.array([word(x) for x in rng.standard_normal(512) * 50], np.uint32)

    scale = 2.0**shift / 3 if shift < 31 else 2.0**30
    image.write(address, words())
    image.write(address + ARRAY_ROOM, words())
    return {
        "result.output": int(rng.integers(2)),
        "epilogue.enable": int(rng.random() < 0.4),
        "epilogue.relu": int(rng.random() < 0.5),
        "epilogue.bias_mode": int(rng.integers(3)),
        "epilogue.scale_mode": int(rng.integers(3)),
        "epilogue.shift": shift,
        "epilogue.bias_value": word(float(rng.integers(-3, 3))),
        "epilogue.scale_value": word(scale),
        "epilogue.bias": address,
        "epilogue.scale": address + ARRAY_ROOM,
        "epilogue.low": word(-100),
        "epilogue.high": word(100),
        "epilogue.threshold": word(float(rng.integers(0, 2))),
    }
