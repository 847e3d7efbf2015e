"""Result blocks between the model's arrays and the benches' stream items."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from loopnest_hw.config import LANES, ChipConfig
from loopnest_hw.kernel import kernel_layout
from loopnest_sim.model.blocks import Blocks
from tb.streams import encode

BLOCK_SIZES = (1, 1, 2, 3, 7, 8, 9, 15, 16)
"""Lanes of a random block: the edges of chunks and blocks are common."""


def to_items(blocks: Blocks) -> list[dict[str, Any]]:
    """Return the blocks as `tokens.RESULT_BLOCK` items."""
    return [
        {
            "coordinate": int(blocks.coordinate[n]),
            "mask": int(blocks.mask[n]),
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
