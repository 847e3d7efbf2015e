"""An independent model of a kernel, token by token after docs/architecture.md: simple and slow.

It shares the arithmetic and the result path (`write`) with the model; these have their own tests.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import CellMode, LeafMode, Op, Reduction, ResultMode
from loopnest_sim.image import Image
from loopnest_sim.model.arith import reduce_pair, wide_type
from loopnest_sim.model.blocks import Blocks
from loopnest_sim.model.lanes import lanes


@dataclass(frozen=True)
class Token:
    """A token (`tokens.token`) without its epoch."""

    position: tuple[int, ...]
    present: tuple[bool, ...]
    fiber: int
    key: int
    stop: int
    null: bool


@dataclass(frozen=True)
class JoinedBlock:
    """A block with lanes; an operand's fiber has the mask and the rank, 0 where it has no block."""

    coordinate: int
    lanes: list[int]
    mask: tuple[int, ...]
    rank: tuple[int, ...]
    child: tuple[int, ...]


class TokenByToken:
    """One run of a kernel."""

    def __init__(self, config: ChipConfig, image: Image, d: Mapping[str, int]) -> None:
        self.config = config
        self.image = image
        self.d = d
        self.operands = range(config.operands)
        self.steps = 0
        self.multiplies = 0
        self.nothing = False

    def run(self) -> Blocks:
        """Return the result's blocks, in order, before the result path."""
        d = self.d
        token = Token(
            position=tuple(d[f"operand.{o}.start"] for o in self.operands),
            present=tuple(bool(d[f"operand.{o}.used"]) for o in self.operands),
            fiber=d["result.start"],
            key=0,
            stop=0,
            null=False,
        )
        tokens: Iterator[Token] = iter([token])
        for r in range(self.config.rows - 1):
            if not d[f"row.{r}.bypass"]:
                tokens = self.row(r, tokens)
        return self.accumulate(tokens)

    def word(self, address: int) -> int:
        """Return the word at an address."""
        return int(self.image.view(address % 2**32, 1, np.uint32)[0])

    def joins(self, r: int, o: int) -> bool:
        """Return whether the cell has a join input."""
        cell = f"row.{r}.cell.{o}"
        return self.d[f"{cell}.mode"] == CellMode.SCAN or bool(self.d[f"{cell}.ones"])

    def fiber(self, r: int, o: int, token: Token) -> tuple[dict[int, tuple[int, int]], int]:
        """Return {block coordinate: (mask, rank)} of the join input's fiber, and its child."""
        d = self.d
        if not token.present[o]:
            return {}, 0
        if d[f"row.{r}.cell.{o}.ones"]:
            size = d[f"row.{r}.size"]
            masks = dict.fromkeys(range((size + 15) // 16), 0)
            for coordinate in range(size):
                masks[coordinate // 16] |= 1 << coordinate % 16
            return {b: (mask, 0) for b, mask in masks.items()}, 0
        scan = f"dispatch.{o}" if r == 0 else f"scanner.{d[f'row.{r}.cell.{o}.scanner']}"
        entry = d[f"{scan}.table"] + token.position[o] * (16 if d[f"{scan}.open"] else 8)
        first, child, end = (self.word(entry + 4 * n) for n in range(3))
        found, rank = {}, 0
        for n in range(first, end):
            word = self.word(d[f"{scan}.blocks"] + 4 * n)
            found[word >> 16] = (word & 0xFFFF, rank)
            rank += (word & 0xFFFF).bit_count()
        return found, child

    def join(self, r: int, token: Token) -> list[JoinedBlock]:
        """Return the joined blocks of a token."""
        if token.null:
            return []
        d = self.d
        inputs = {o: self.fiber(r, o, token) for o in self.operands if self.joins(r, o)}
        joined = []
        for coordinate in sorted({b for found, _ in inputs.values() for b in found}):
            own = {o: found.get(coordinate) for o, (found, _) in inputs.items()}
            has = [own[o] is not None if o in own else token.present[o] for o in self.operands]
            if not d[f"row.{r}.block_table"] >> pattern(has) & 1:
                continue
            masks = tuple((own.get(o) or (0, 0))[0] for o in self.operands)
            kept = []
            for lane in range(16):
                bits = [
                    bool(masks[o] >> lane & 1) if o in own else token.present[o]
                    for o in self.operands
                ]
                some = any(mask >> lane & 1 for mask in masks)
                if some and d[f"row.{r}.lane_table"] >> pattern(bits) & 1:
                    kept.append(lane)
            if kept:
                ranks = tuple((own.get(o) or (0, 0))[1] for o in self.operands)
                children = tuple(inputs[o][1] if o in inputs else 0 for o in self.operands)
                joined.append(JoinedBlock(coordinate, kept, masks, ranks, children))
        return joined

    def descend(
        self, r: int, token: Token, block: JoinedBlock, lane: int
    ) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return each operand's position and presence in a lane."""
        coordinate = 16 * block.coordinate + lane
        position, present = [], []
        for o in self.operands:
            step = self.d[f"row.{r}.cell.{o}.step"]
            mode = self.d[f"row.{r}.cell.{o}.mode"]
            if mode == CellMode.HOLD:
                base, number = token.position[o], 0
            elif mode == CellMode.FOLLOW:
                base, number = token.position[o], coordinate
            else:
                below = (block.mask[o] & ((1 << lane) - 1)).bit_count()
                base, number = block.child[o], block.rank[o] + below
            position.append((base + number * step) % 2**32)
            inside = bool(block.mask[o] >> lane & 1)
            present.append(inside if self.joins(r, o) else token.present[o])
        return tuple(position), tuple(present)

    def row(self, r: int, tokens: Iterator[Token]) -> Iterator[Token]:
        """Expand each token by a loop."""
        mode, step = self.d[f"row.{r}.result_mode"], self.d[f"row.{r}.result_step"]
        for token in tokens:
            found = []
            for block in self.join(r, token):
                for lane in block.lanes:
                    position, present = self.descend(r, token, block, lane)
                    moved = (16 * block.coordinate + lane) * step
                    fiber, key = token.fiber, token.key
                    if mode == ResultMode.FIBER:
                        fiber = (fiber + moved) % 2**32
                    elif mode == ResultMode.KEY:
                        key = (key + moved) % 2**20
                    found.append(Token(position, present, fiber, key, 0, False))
            if not found:
                # fibers that row 0 selects: there is none
                self.nothing |= r == 0 and mode == ResultMode.FIBER
                found = [replace(token, null=True)]
            found[-1] = replace(found[-1], stop=1 + token.stop)
            yield from found

    def bank(self, token: Token, block: JoinedBlock, lane: int) -> int:
        """Return the accumulator's bank of a lane (AXPY)."""
        number = (token.key // 16 + block.coordinate << self.d["copies"]) % 2**16
        odd = f"{number:b}".count("1") % 2
        return lane ^ 3 if odd and self.d["accumulate"] else lane

    def form(self, token: Token, blocks: list[JoinedBlock]) -> list[list[tuple[JoinedBlock, int]]]:
        """Return the steps of a leaf fiber, each a list of lanes."""
        mode, m = self.d["leaf_mode"], self.config.multipliers
        queue = [(block, list(block.lanes)) for block in blocks]
        steps = []
        while queue:
            block, left = queue[0]
            if mode == LeafMode.SCATTER:
                step = [(block, left.pop(0))]
            else:
                step = [(block, left.pop(0)) for _ in range(min(m, len(left)))]
                if not left and len(queue) > 1:
                    other, more = queue[1]
                    taken = [self.bank(token, block, lane) for _, lane in step]
                    while more and len(step) < m:
                        if mode == LeafMode.AXPY and self.bank(token, other, more[0]) in taken:
                            break
                        step.append((other, more.pop(0)))
            queue = [(b, left) for b, left in queue if left]
            steps.append(step)
        return steps

    def lane(self, token: Token, block: JoinedBlock, lane: int) -> Any:
        """Return what a lane computes, as an array of one wide value."""
        d, fmt = self.d, self.config.dtype
        position, present = self.descend(self.config.rows - 1, token, block, lane)
        raw = []
        wide = [bool(d[f"operand.{o}.wide"]) for o in self.operands]
        for o in self.operands:
            size = 4 if wide[o] else fmt.narrow_bytes
            at = (d[f"operand.{o}.values"] + position[o] * size) % 2**32
            raw.append(int(self.image.view(at, 1, f"<u{size}")[0]) if present[o] else 0)
        used = [bool(d[f"operand.{o}.used"]) for o in self.operands]
        has = [p and u for p, u in zip(present, used, strict=True)]
        self.multiplies += 1
        x, _ = lanes(
            np.array(raw, np.uint32).reshape(1, 1, -1),
            np.array(has).reshape(1, 1, -1),
            np.ones((1, 1), np.bool_),
            op1=Op(d["op1"]),
            op2=Op(d["op2"]),
            wide=wide,
            negated=[bool(d[f"operand.{o}.negate"]) for o in self.operands],
            fmt=fmt,
        )
        return x[0]

    def plus(self, a: Any, b: Any) -> Any:
        """Reduce two wide values, of which either may be missing."""
        if a is None or b is None:
            return b if a is None else a
        return reduce_pair(a, b, Reduction(self.d["reduction"]), self.config.dtype)[0]

    def tree(self, slots: list[Any]) -> Any:
        """Return ((0+1)+(2+3))+..."""
        while len(slots) > 1:
            slots = [self.plus(a, b) for a, b in zip(slots[::2], slots[1::2], strict=True)]
        return slots[0]

    def terms(self, token: Token) -> Iterator[tuple[int, Any]]:
        """Yield key and value of each term of a leaf token."""
        r = self.config.rows - 1
        steps = self.form(token, self.join(r, token))
        self.steps += len(steps)
        if self.d["leaf_mode"] == LeafMode.DOT:
            ring: list[Any] = [None] * 4
            for s, step in enumerate(steps):
                slots = [self.lane(token, block, lane) for block, lane in step]
                slots += [None] * (self.config.multipliers - len(slots))
                ring[s % 4] = self.plus(ring[s % 4], self.tree(slots))
            if steps:
                yield token.key, self.tree(ring)
            return
        for step in steps:
            for block, lane in step:
                moved = (16 * block.coordinate + lane) * self.d[f"row.{r}.result_step"]
                if self.d[f"row.{r}.result_mode"] != ResultMode.KEY:
                    moved = 0
                yield (token.key + moved) % 2**20, self.lane(token, block, lane)

    def accumulate(self, tokens: Iterator[Token]) -> Blocks:
        """Sum the terms by result fiber and key; return the fibers' blocks."""
        rows: list[tuple[int, int, list[int], int, bool]] = []
        copies: list[dict[int, Any]] = [{} for _ in range(1 << self.d["copies"])]
        fibers = 0
        for token in tokens:
            copy = copies[fibers % len(copies)]
            fibers += not token.null
            for key, value in self.terms(token):
                key %= 2**20 // len(copies)
                copy[key] = self.plus(copy.get(key), value)
            if self.nothing:
                break
            if 1 + token.stop >= self.d["drain_stop"]:
                sums: dict[int, Any] = {}
                for copy in copies:
                    for key, value in copy.items():
                        sums[key] = self.plus(sums.get(key), value)
                    copy.clear()
                rows += self.blocks(sums, token.fiber)
                fibers = 0
        if not rows:
            return Blocks.of([], [], [], [], last=[], final=[])
        coordinate, mask, value, fiber, ends = zip(*rows, strict=True)
        final = [False] * (len(rows) - 1) + [True]
        return Blocks.of(coordinate, mask, value, fiber, last=ends, final=final)

    def blocks(
        self, sums: dict[int, Any], fiber: int
    ) -> list[tuple[int, int, list[int], int, bool]]:
        """Return a fiber's blocks; if it has none, one with mask 0."""
        if self.d["result.full"]:
            zero = np.zeros(1, wide_type(self.config.dtype))
            size = self.d["result.size"]
            beyond = {key: x for key, x in sums.items() if key // 16 >= (size + 15) // 16}
            sums = {key: sums.get(key, zero) for key in range(size)} | beyond
        rows = []
        for b in sorted({key // 16 for key in sums}):
            keys = [key for key in sums if key // 16 == b]
            value = [0] * 16
            for key in keys:
                value[key % 16] = int(sums[key].view(np.uint32)[0])
            rows.append((b, sum(1 << key % 16 for key in keys), value, fiber, False))
        rows = rows or [(0, 0, [0] * 16, fiber, False)]
        rows[-1] = (*rows[-1][:4], True)
        return rows


def pattern(bits: Any) -> int:
    """Return the number whose bit o is bits[o]."""
    return sum(bool(bit) << o for o, bit in enumerate(bits))
