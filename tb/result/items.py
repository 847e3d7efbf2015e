"""Result blocks between the model's arrays and the benches' stream items."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopnest_hw.config import LANES, ChipConfig
from loopnest_hw.kernel import kernel_layout
from loopnest_sim.model.blocks import Blocks
from tb.streams import encode

BLOCK_SIZES = (1, 1, 2, 3, 7, 8, 9, 15, 16)
"""Lanes of a random block: edges of chunks and blocks occur often."""


NO_BLOCK = {"coordinate": 0, "mask": 0}
"""The second block of an item that has none."""


def paired(items: Sequence[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """Return the items, with most blocks that can be second ones merged into the item before."""
    out: list[dict[str, Any]] = []
    for item in items:
        before = out[-1] if out else None
        if before and joins(before, item) and rng.random() < 0.8:
            out[-1] = joined(before, item)
        else:
            out.append(item)
    return out


def joins(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether an item can include the block of the next one."""
    alone = not first["second"]["mask"] and not first["last"]
    return alone and first["mask"] & second["mask"] == 0 and first["mask"] and second["mask"]


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of two blocks."""
    return {
        **second,
        "coordinate": first["coordinate"],
        "mask": first["mask"],
        "second": {name: second[name] for name in NO_BLOCK},
        "value": [a | b for a, b in zip(first["value"], second["value"], strict=True)],
    }


def apart(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the items with one block each."""
    out: list[dict[str, Any]] = []
    for item in items:
        two = item["second"]["mask"] != 0
        for last, block in [(not two, item), *([(True, item["second"])] if two else [])]:
            lanes = [block["mask"] >> n & 1 for n in range(LANES)]
            out.append(
                {
                    **item,
                    **{name: block[name] for name in NO_BLOCK},
                    "second": dict(NO_BLOCK),
                    "value": [
                        v if here else 0 for v, here in zip(item["value"], lanes, strict=True)
                    ],
                    "last": item["last"] if last else 0,
                    "final": item["final"] if last else 0,
                }
            )
    return out


def noisy(items: Sequence[Mapping[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """Return the items with random values outside their masks, where they are undefined."""
    return _outside(items, lambda: rng.getrandbits(32))


def defined(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the items with zeros outside their masks."""
    return _outside(items, lambda: 0)


def _outside(items: Sequence[Mapping[str, Any]], value: Callable[[], int]) -> list[dict[str, Any]]:
    return [
        {
            **item,
            "value": [
                v if (item["mask"] | item["second"]["mask"]) >> lane & 1 else value()
                for lane, v in enumerate(item["value"])
            ],
        }
        for item in items
    ]


def to_items(blocks: Blocks) -> list[dict[str, Any]]:
    """Return the blocks as `tokens.RESULT_BLOCK` items."""
    return [
        {
            "coordinate": int(blocks.coordinate[n]),
            "mask": int(blocks.mask[n]),
            "second": dict(NO_BLOCK),
            "value": blocks.value[n].tolist(),
            "fiber": int(blocks.fiber[n]),
            "last": int(blocks.last[n]),
            "final": int(blocks.final[n]),
        }
        for n in range(len(blocks))
    ]


def to_blocks(items: Sequence[Mapping[str, Any]]) -> Blocks:
    """Return `tokens.RESULT_BLOCK` items as blocks."""
    return Blocks.of(
        [item["coordinate"] for item in items],
        [item["mask"] for item in items],
        [item["value"] for item in items],
        [item["fiber"] for item in items],
        last=[item["last"] for item in items],
        final=[item["final"] for item in items],
    )


def silenced(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the items with a silent final one (`ResultPath.silent`), which ends no fiber."""
    nothing = {**NO_BLOCK, "second": dict(NO_BLOCK), "value": [0] * LANES, "fiber": 0, "last": 0}
    return [*({**item, "final": 0} for item in items), {**nothing, "final": 1}]


def random_lanes(rng: random.Random, lanes: int = LANES) -> int:
    """Return a mask with some of the lowest ``lanes`` lanes set."""
    count = min(rng.choice(BLOCK_SIZES), lanes)
    return sum(1 << lane for lane in rng.sample(range(lanes), count))


def random_blocks(
    rng: random.Random, fibers: Sequence[int], *, size: int, most: int, wide: bool = True
) -> Blocks:
    """Return up to ``most`` blocks for each of ``fibers``, with coordinates below ``size``.

    Some fibers end with an item of mask 0.
    """
    items: list[dict[str, Any]] = []
    for number, fiber in enumerate(fibers):
        whole = -(-size // LANES)
        count = rng.randint(0, min(most, whole))
        blocks = sorted(rng.sample(range(whole), count))
        masks = [random_lanes(rng, min(LANES, size - LANES * b)) for b in blocks]
        if not blocks or rng.random() < 0.1:
            blocks.append(0)
            masks.append(0)
        for n, (block, mask) in enumerate(zip(blocks, masks, strict=True)):
            last = n == len(blocks) - 1
            items.append(
                {
                    "coordinate": block,
                    "mask": mask,
                    "value": [
                        rng.getrandbits(32 if wide else 8) if mask >> lane & 1 else 0
                        for lane in range(LANES)
                    ],
                    "fiber": fiber,
                    "last": last,
                    "final": last and number == len(fibers) - 1,
                }
            )
    return to_blocks(items)


def setting(config: ChipConfig, group: str, kernel: Mapping[str, int]) -> int:
    """Return the bits of a kernel's ``result`` or ``epilogue`` port."""
    values = {
        path.removeprefix(f"{group}."): value
        for path, value in kernel.items()
        if path.startswith(f"{group}.")
    }
    return encode(kernel_layout(config).members[group], values)
