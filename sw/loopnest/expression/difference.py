"""How far an operand may differ from the one that a plan was made for."""

from .operand import Operand

DENSER = 2
"""Factor on the entries of an operand up to which plans for it are taken for another one."""


def difference(old: Operand, new: Operand) -> str | None:
    """Return what of an operand the plans for another one do not hold for, in words; None if they
    are right for it, and end.
    """
    low, high = old.bounds
    least, largest = new.bounds
    if old.shape != new.shape:
        return f"has shape {new.shape}: expected {old.shape}"
    if (old.sparse, old.wide, old.given) != (new.sparse, new.wide, new.given):
        return f"is {_kind(new)}: expected it {_kind(old)}"
    if old.is_view is not new.is_view:
        return "has too many entries, or too few, to be looked at as before"
    if not low <= least <= largest <= high:
        return f"has values from {least:g} to {largest:g}: expected {low:g} to {high:g}"
    if new.nnz > DENSER * old.nnz:
        return f"has {new.nnz:,} entries: expected up to {DENSER * old.nnz:,}"
    return None


def _kind(operand: Operand) -> str:
    found = f"{'sparse' if operand.sparse else 'dense'}{', wide' * operand.wide}"
    if operand.given is None:
        return found
    levels, modes = operand.given
    order = "" if modes == tuple(range(len(modes))) else f" in the order {modes} of modes"
    return f"{found}, a Tensor of levels {','.join(levels)}{order}"
