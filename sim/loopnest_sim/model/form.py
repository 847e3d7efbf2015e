"""Golden function of the step former: a leaf fiber's blocks cut into steps of up to M lanes."""

from collections.abc import Sequence

Lane = tuple[int, int]
"""Number of the block within its fiber, and lane."""


def form(
    blocks: Sequence[int],
    multipliers: int,
    *,
    skews: Sequence[int] | None = None,
    single: bool = False,
) -> list[list[Lane]]:
    """Return the steps of one leaf fiber, whose blocks have these kept lanes.

    A step takes the head block's lowest lanes up to ``multipliers``; if that empties the block, it
    fills up from the next block, lowest lane first. With ``skews``, lane l of block b is in bank
    ``l ^ skews[b]``, and a step stops at a bank that it has already taken. ``single``: it stops at
    one lane. A fiber without lanes is one step without lanes.
    """
    limit = 1 if single else multipliers
    left = [[lane for lane in range(16) if lanes >> lane & 1] for lanes in blocks]
    steps: list[list[Lane]] = []
    head = 0
    while head < len(left):
        step = [(head, lane) for lane in left[head][:limit]]
        left[head] = left[head][limit:]
        if not left[head]:
            head += 1
            if head < len(left) and len(step) < limit:
                taken = {lane ^ skews[head - 1] for _, lane in step} if skews else set()
                while left[head] and len(step) < limit:
                    if skews and left[head][0] ^ skews[head] in taken:
                        break
                    step.append((head, left[head].pop(0)))
                if not left[head]:
                    head += 1
        if step:
            steps.append(step)
    return steps or [[]]
