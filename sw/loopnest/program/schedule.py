"""The order of a program's steps: what the host does first, so that kernels follow each other."""

from collections.abc import Collection, Sequence

from ..expression.operand import Operand
from .chain import root
from .steps import HostStep, Step


def needed(steps: Sequence[Step], results: Collection[Operand]) -> tuple[Step, ...]:
    """Return the steps without those of the host whose results neither other steps use nor these
    ``results`` are.
    """
    used = {root(operand) for operand in results}
    kept: list[Step] = []
    for step in reversed(steps):
        if isinstance(step, HostStep) and step.result not in used:
            continue
        kept.append(step)
        used.update(map(root, step.operands))
    return tuple(reversed(kept))


def scheduled(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps in an order in which each has its operands, with as few changes between
    kernels and the host as a greedy choice finds.
    """
    made = {step.result for step in steps}
    needs = {step: {root(o) for o in step.operands} & made for step in steps}
    done: list[Step] = []
    known: set[object] = set()
    left = list(steps)
    host = True
    while left:
        # one pass takes all of a kind that are possible: the steps are in an order that works
        waiting: list[Step] = []
        for step in left:
            if isinstance(step, HostStep) is host and needs[step] <= known:
                done.append(step)
                known.add(step.result)
            else:
                waiting.append(step)
        left, host = waiting, not host
    return tuple(done)
