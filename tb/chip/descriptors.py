"""Random kernel descriptors for the benches of the chip around the PE."""

import random
from typing import Any

from loopnest_hw.config import COORDINATE_BITS, MAX_LOG2_COPIES, ChipConfig
from loopnest_hw.descriptor import (
    MAGIC,
    PREFETCHES,
    CellMode,
    LeafMode,
    Op,
    Reduction,
    ResultMode,
    kernel_fields,
)
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.registers import snapshot_lines
from tb.streams import encode


def sound(config: ChipConfig, rng: random.Random) -> dict[str, int]:
    """Return a descriptor of random fields without contradictions; its budget is the maximum."""
    kernel = {f.path: rng.getrandbits(f.bits) for f in kernel_fields(config)}
    kernel |= {"magic": MAGIC, "last": 0, "budget": 0xFFFFFFFF}
    if config.pes > 1:
        kernel |= {"share.rows": 0, "share.head": 0}
    if config.cached:
        kernel |= {f"prefetch.{n}.lines": 0 for n in range(PREFETCHES)}
    for path, limit in (
        ("leaf_mode", len(LeafMode) - 1),
        ("op1", len(Op) - 1),
        ("op2", len(Op) - 1),
        ("reduction", len(Reduction) - 1),
        ("copies", MAX_LOG2_COPIES),
        ("result.size", 1 << COORDINATE_BITS),
        ("epilogue.bias_mode", 2),
        ("epilogue.scale_mode", 2),
    ):
        kernel[path] = rng.choice((limit, rng.randrange(limit + 1)))
    kernel["accumulate"] |= kernel["copies"] > 0
    kernel |= regions(config, rng)
    for o in range(config.operands):
        kernel[f"operand.{o}.values"] &= ~3
    kernel["epilogue.bias"] &= ~3
    kernel["epilogue.scale"] &= ~3
    lines = iter(sorted(rng.sample(range(config.pool_lines), 2 * config.pool_streams)))
    for s in range(config.pool_streams):
        base, last = next(lines), next(lines)
        kernel |= {f"ring.{s}.base": base, f"ring.{s}.last": rng.choice((base, last, last))}

    scanners = list(range(config.scanners))
    rng.shuffle(scanners)
    kernel |= {"row.0.bypass": 0, f"row.{config.rows - 1}.bypass": 0}
    for r in range(config.rows):
        row = f"row.{r}"
        if kernel[f"{row}.bypass"]:
            continue
        kernel[f"{row}.result_mode"] = rng.choice(list(ResultMode))
        kernel[f"{row}.size"] = rng.choice((1 << COORDINATE_BITS, rng.getrandbits(12)))
        ones = rng.randrange(config.operands)
        for o in range(config.operands):
            cell = f"{row}.cell.{o}"
            kernel[f"{cell}.ones"] = int(o == ones)
            kernel[f"{cell}.mode"] = rng.choice((CellMode.HOLD, CellMode.FOLLOW))
            if o != ones and (r == 0 or scanners) and rng.randrange(2):
                kernel[f"{cell}.mode"] = CellMode.SCAN
                if r > 0:
                    kernel[f"{cell}.scanner"] = scanners.pop()
    loops = sum(not kernel[f"row.{r}.bypass"] for r in range(config.rows))
    kernel["drain_stop"] = rng.randint(0, loops)
    leaf = f"row.{config.rows - 1}"
    if kernel["leaf_mode"] == LeafMode.AXPY:
        for r in range(config.rows - 1):
            kernel[f"row.{r}.result_step"] &= ~15
    if kernel["leaf_mode"] == LeafMode.AXPY:
        kernel |= {f"{leaf}.result_mode": ResultMode.KEY, f"{leaf}.result_step": 1}
    if kernel["leaf_mode"] == LeafMode.DOT:
        kernel[f"{leaf}.result_mode"] = ResultMode.HOLD
    return kernel


def register(config: ChipConfig, kernel: dict[str, int]) -> int:
    """Return a descriptor's fields as a `kernel_layout`."""
    root: dict[str, Any] = {}
    for path, value in kernel.items():
        *parents, leaf = path.split(".")
        node = root
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value

    def lists(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if "0" in node:
            return [lists(child) for child in node.values()]
        return {name: lists(child) for name, child in node.items()}

    return encode(kernel_layout(config), lists(root))


def regions(config: ChipConfig, rng: random.Random) -> dict[str, int]:
    """Return the regions that are written, in any order and some of them empty."""
    ends = sorted(rng.getrandbits(27) * 32 for _ in range(8))
    found = {}
    for n, name in enumerate(rng.sample(["table", "blocks", "values", "counters"], 4)):
        begin, end = ends[2 * n : 2 * n + 2]
        if name == "counters":
            size = 32 * snapshot_lines(config.pes)
            found[name] = rng.choice((0, begin, end - size)) if end - begin >= size else 0
            continue
        found[f"result.{name}"] = begin
        found[f"result.{name}_end"] = rng.choice((begin, end, rng.randint(begin, end)))
    return found
