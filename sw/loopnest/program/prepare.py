"""From a statement's text and the user's operands to what the planner takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from loopnest_hw.config import ChipConfig

from ..arguments import flag
from ..epilogue import Epilogue, check_epilogue, keeps_zero
from ..expression.expected import Expected
from ..expression.mask import mask_operand
from ..expression.notation import Access, Mask, Statement, accesses
from ..expression.operand import Operand
from ..expression.parser import parse
from ..expression.semiring import Semiring
from ..expression.shown import look
from ..expression.sizes import view_sizes, with_parts
from ..expression.sources import statement_numbers
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import MAX_ORDER, Levels, parse_levels
from ..loops.plan import default_levels, parse_order
from ..named import named
from .steps import Step, changed

MASK = "mask"
"""Name of a mask among the operands."""

TAKEN = ("self", "statement", "order", "out", "epilogue", MASK, "complement", "semiring")
"""Arguments of `Chip.compute`, whose names operands cannot have."""


@dataclass(frozen=True)
class Prepared:
    """A statement and its operands in the order written, a mask's last, as the semiring sees them;
    and how its result is to be computed and stored. ``steps`` are what the host does first, to
    operands that are not computed yet.
    """

    statement: Statement
    operands: tuple[Operand, ...]
    semiring: Semiring
    order: tuple[str, ...] | None
    levels: tuple[str, ...]
    epilogue: Epilogue | None
    steps: tuple[Step, ...] = ()

    @property
    def named(self) -> dict[str, Operand]:
        """The operands by name."""
        return {a.name: o for a, o in zip(self.statement.accesses, self.operands, strict=True)}


def prepare(
    config: ChipConfig,
    text: str,
    given: Mapping[str, Any],
    *,
    semiring: Semiring,
    order: str | Sequence[str] | None = None,
    out: Levels | None = None,
    epilogue: Epilogue | None = None,
    mask: Any = None,
    complement: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> Prepared:
    """Parse a statement, and check it with its operands and all other arguments of `Chip.compute`.

    Parameters
    ----------
    given : mapping
        The operands by name: what the user has, or an `Operand`.
    sizes : mapping of str to int, optional
        Of indices that stand alone nowhere, or for which tensors show only their first coordinates.

    Raises
    ------
    ValueError, TypeError
        For arguments that are wrong, naming them.
    """
    statement = parse(text)
    names = {a.tensor for a in statement.accesses if a.number is None}
    for name in names.intersection(TAKEN):
        raise ValueError(
            f"{text!r}: {name!r} is an argument of compute: expected another name for the operand"
        )
    for name in given:
        if name not in names:
            raise ValueError(f"operand {name!r}: {text!r} does not have it")
    for name in names:
        if name not in given:
            raise ValueError(f"operand {name!r} of {text!r} is missing: expected {name}=")
    used = {access.tensor for access in accesses(statement.expression)}
    sources = {**given, **statement_numbers(statement, config.dtype)}
    known = {name: as_operand(config, name, sources[name]) for name in used}
    operands = [known[access.tensor] for access in accesses(statement.expression)]
    steps: list[Step] = []
    if statement.mask is not None:
        access = statement.mask.access
        operands.append(_pattern(config, access.name, sources[access.name], steps))
        if access.name in used:  # it has values there, so it is a separate operand here
            access = replace(access, name=f"{access.name}'")
            statement = replace(statement, mask=replace(statement.mask, access=access))
    return arranged(
        config,
        statement,
        operands,
        semiring=semiring,
        order=order,
        out=out,
        epilogue=epilogue,
        mask=mask,
        complement=complement,
        steps=steps,
        sizes=sizes,
    )


def as_operand(config: ChipConfig, name: str, source: Any) -> Operand:
    """Return an operand unchanged, and anything else as one."""
    return source if isinstance(source, Operand) else Operand(name, source, config.dtype)


def arranged(
    config: ChipConfig,
    statement: Statement,
    operands: Sequence[Operand],
    *,
    semiring: Semiring,
    order: str | Sequence[str] | None,
    out: Levels | None,
    epilogue: Epilogue | None,
    mask: Any,
    complement: bool,
    steps: Sequence[Step] = (),
    sizes: Mapping[str, int] | None = None,
) -> Prepared:
    """Return a statement and its operands, which are known, as `prepare` does; ``steps`` come
    first.
    """
    if len(statement.result.indices) > MAX_ORDER:
        raise ValueError(f"{statement.result}: expected up to {MAX_ORDER} indices")
    first = list(steps)
    statement, found = _seen(statement, operands, semiring, first, sizes)
    statement, found = _masked(config, statement, found, mask, complement)
    levels = _result_levels(statement, found, out, epilogue, semiring)
    loops = parse_order(order, statement)
    return Prepared(statement, tuple(found), semiring, loops, levels, epilogue, tuple(first))


def _pattern(config: ChipConfig, name: str, source: Any, steps: list[Step]) -> Operand:
    """Return a mask; of a tensor that is not computed yet, by a step of the host."""
    if not isinstance(source, Operand):
        return mask_operand(name, source, config.dtype)
    if isinstance(source, Expected):
        return changed(steps, f"find the entries of {name}", source, partial(_mask, name))
    return mask_operand(name, source.source, config.dtype)


@named
def _mask(name: str, operand: Operand) -> Operand:
    """Return a mask made of a result: a dense one is an array, and keeps where it is not 0."""
    if isinstance(operand, Expected):
        return operand.pattern()
    source = operand.source if operand.sparse else operand.source.to_dense()
    return mask_operand(name, source, operand.dtype)


def _seen(
    statement: Statement,
    operands: Sequence[Operand],
    semiring: Semiring,
    steps: list[Step],
    given: Mapping[str, int] | None,
) -> tuple[Statement, list[Operand]]:
    """Return statement and operands with the semiring's values, and views as operands."""

    def rearrange(what: str, operand: Operand, change: Callable[[Operand], Operand]) -> Operand:
        if isinstance(operand, Expected):
            return changed(steps, what, operand, change)
        return change(operand)

    shapes = [operand.shape for operand in operands]
    statement = with_parts(statement, shapes, given or {})
    viewed = any(access.places is not None for access in statement.accesses)
    sizes = view_sizes(statement, shapes, given, _kept(statement, operands)) if viewed else {}
    statement, operands = semiring.prepare(statement, operands, rearrange)
    for operand in {id(operand): operand for operand in operands}.values():
        operand.warn_beyond()
    viewed_as: dict[Access, Access] = {}
    seen = []
    for access, operand in zip(statement.accesses, operands, strict=True):
        if access.places is not None:
            viewed_as[access] = look(operand, access, sizes)[0]
            what = f"find the entries of {access}"
            operand = rearrange(what, operand, partial(_looked, access, sizes))
        seen.append(operand)
    return statement.with_accesses(lambda access: viewed_as.get(access, access)), seen


def _kept(statement: Statement, operands: Sequence[Operand]) -> dict[str, tuple[int, int]]:
    """Return the least and the largest coordinate that a mask keeps, if it is a vector."""
    mask, known = statement.mask, operands[-1]
    if mask is None or mask.complement or len(mask.access.indices) != 1 or not known.known:
        return {}
    (places,) = known.coordinates() or (np.zeros(0, np.int64),)
    (index,) = mask.access.indices
    return {index: (int(places.min()), int(places.max())) if len(places) else (0, -1)}


@named
def _looked(access: Access, sizes: Mapping[str, int], operand: Operand) -> Operand:
    return look(operand, access, sizes)[1]


def _masked(
    config: ChipConfig,
    statement: Statement,
    operands: list[Operand],
    mask: Any,
    complement: bool,
) -> tuple[Statement, list[Operand]]:
    """Return the statement and the operands with the mask added."""
    complement = flag("complement", complement)
    if mask is not None and statement.mask is not None:
        raise ValueError(f"mask: {statement} has one already")
    if mask is None:
        if complement:
            raise ValueError(f"complement={complement!r}: expected a mask")
        return statement, operands
    if not statement.result.indices:
        raise ValueError(f"mask: {statement.result} is a number: expected a result to mask")
    own = mask_operand(MASK, mask, config.dtype)
    access = replace(statement.result, name=MASK)
    return replace(statement, mask=Mask(access, complement)), [*operands, own]


def _result_levels(
    statement: Statement,
    operands: Sequence[Operand],
    out: Levels | None,
    epilogue: Epilogue | None,
    semiring: Semiring,
) -> tuple[str, ...]:
    """Check the result's levels and the epilogue; return the levels."""
    check_epilogue(epilogue)
    if statement.mask is not None and not keeps_zero(epilogue, semiring.zero):
        rows = set(statement.result.indices) - set(statement.mask.access.indices)
        if statement.mask.complement or not rows or semiring.zero != 0:
            raise ValueError(
                "epilogue: it makes 0, which the mask leaves out, another value: expected one "
                "that keeps 0, or a mask that keeps whole rows"
            )
    if out is None:
        levels = default_levels(statement, operands)
    else:
        try:
            levels = parse_levels(out, len(statement.result.indices))
        except (TypeError, ValueError) as error:
            raise type(error)(f"out: {error}") from None
    if semiring.zero != 0 and COMPRESSED in levels:
        if DENSE in levels[levels.index(COMPRESSED) :]:
            raise ValueError(
                f"out={out!r}: what the dense level adds would be 0, which is not the zero of "
                f"{semiring.name}: expected the compressed levels innermost"
            )
        if epilogue is not None:
            raise ValueError(
                f"epilogue: a compressed result loses what becomes 0, which is not the zero of "
                f"{semiring.name}: expected a dense result"
            )
    return levels
