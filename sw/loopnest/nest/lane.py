"""Maps an expression to the lane: operands in columns, signs, two operators.

The lane computes ``op1(value 0, op2(value 1, value 2))``; if one argument is absent, the result is
the other one (`docs/architecture.md`, The leaf).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from loopnest_hw.descriptor import Op

from ..expression.notation import Access, Binary, Expression, Negate, Statement
from ..expression.split import OneKernelError


@dataclass(frozen=True)
class Leaf:
    """Operand ``number`` of the statement, with its sign."""

    number: int
    negate: bool


@dataclass(frozen=True)
class Node:
    """A product or sum of two."""

    op: Op
    left: "Tree"
    right: "Tree"


Tree = Leaf | Node


@dataclass(frozen=True)
class Lane:
    """The operand of each column, and the lane's operators.

    ``columns[c]`` is the statement's operand in column c; ``negate[c]`` its sign. A mask is in the
    last column: an absent one leaves a value unchanged; a present one has a value that leaves every
    sum unchanged, and is not a factor.
    """

    tree: Tree
    columns: tuple[int, ...]
    negate: tuple[bool, ...]
    op1: Op
    op2: Op
    masked: bool = False
    complement: bool = False

    @property
    def mask(self) -> int | None:
        """The mask's column."""
        return len(self.columns) - 1 if self.masked else None

    def needs(self, pattern: int) -> bool:
        """Return whether the result can be nonzero if only the columns of ``pattern`` (bit c:
        column c) are present. A mask that is not complemented must be present; a complemented one
        is decided only at its last level (`keeps`).
        """
        if self.mask is not None and not self.complement and not pattern >> self.mask & 1:
            return False
        return _structural(self.tree, {n: pattern >> c & 1 for c, n in enumerate(self.columns)})

    def keeps(self, pattern: int, *, last: bool) -> bool:
        """Return the same for a lane; ``last``: in the row of the mask's last level."""
        if last and self.complement and self.mask is not None and pattern >> self.mask & 1:
            return False
        return self.needs(pattern)

    def computes(self, pattern: int) -> bool:
        """Return whether the lane computes the expression if the columns of ``pattern`` are
        present: terms may be absent, factors may not.
        """
        if self.mask is not None:
            pattern &= ~(1 << self.mask)
        # Distinct primes represent the values, so that different sums of products differ.
        primes = (1009, 2003, 4001)
        value = [primes[c] if pattern >> c & 1 else None for c in range(len(self.columns))]
        value += [None] * (len(primes) - len(value))
        got = _apply(self.op1, value[0], _apply(self.op2, value[1], value[2]))
        by_number = {n: value[c] or 0 for c, n in enumerate(self.columns)}
        return got == _evaluate(self.tree, by_number)


def fit(statement: Statement, wide: Sequence[bool], columns: int) -> Lane:
    """Assign the statement's operands to columns.

    Parameters
    ----------
    wide : sequence of bool
        For each operand of the statement, whether its values are wide.
    columns : int
        Operand columns of the chip.

    Raises
    ------
    OneKernelError
        If a single kernel cannot compute the expression; the message says why.
    """
    mask = statement.mask
    if mask is not None:
        bare = fit(replace(statement, mask=None), wide[:-1], columns - 1)
        return replace(
            bare,
            columns=(*bare.columns, len(wide) - 1),
            negate=(*bare.negate, False),
            masked=True,
            complement=mask.complement,
        )
    tree = _normal(statement.expression)
    leaves = list(_leaves(tree))
    if len(leaves) > columns:
        raise OneKernelError(
            f"{statement}: {len(leaves)} operands; a single kernel of this chip takes {columns}"
        )
    _check_sums(statement, tree)
    for op1, op2, order in _arrangements(tree):
        lane = Lane(tree, tuple(f.number for f in order), tuple(f.negate for f in order), op1, op2)
        if _multiplies_narrow(lane, wide):
            return lane
    raise OneKernelError(
        f"{statement}: a product takes at most one wide factor: expected narrow values "
        f'(an epilogue with out="narrow" makes them)'
    )


def _arrangements(tree: Tree) -> list[tuple[Op, Op, tuple[Leaf, ...]]]:
    """Return operators and the leaf of each column, the arrangement as written first."""
    match tree:
        case Leaf():
            return [(Op.FIRST, Op.FIRST, (tree,))]
        case Node(op, Leaf() as a, Leaf() as b):
            return [(op, Op.FIRST, (a, b)), (op, Op.FIRST, (b, a))]
        case Node(op1, Leaf() as a, Node(op2, b, c)) | Node(op1, Node(op2, b, c), Leaf() as a):
            assert isinstance(b, Leaf) and isinstance(c, Leaf)  # three operands at most
            orders: list[tuple[Leaf, ...]] = [(a, b, c), (a, c, b)]
            if op1 is op2 is Op.MUL:  # a product may be multiplied in any order
                orders += permutations((a, b, c))
            return [(op1, op2, order) for order in orders]
    raise AssertionError(f"no arrangement of {tree}")


def _multiplies_narrow(lane: Lane, wide: Sequence[bool]) -> bool:
    of_column = [wide[n] for n in lane.columns]
    if lane.op1 is Op.MUL and of_column[0]:
        return False
    # The second multiplier's narrow factor stands in column 1.
    return lane.op2 is not Op.MUL or not of_column[1]


def _normal(expression: Expression) -> Tree:
    """Return the tree with signs moved to its leaves, numbered from left to right."""
    number = iter(range(1 << 16))

    def walk(e: Expression, negate: bool) -> Tree:
        match e:
            case Access():
                return Leaf(next(number), negate)
            case Negate(term):
                return walk(term, not negate)
            case Binary("*", left, right):
                return Node(Op.MUL, walk(left, negate), walk(right, False))
            case Binary(op, left, right):
                return Node(Op.ADD, walk(left, negate), walk(right, negate ^ (op == "-")))
        raise AssertionError(e)

    return walk(expression, False)


def _leaves(tree: Tree) -> list[Leaf]:
    return [tree] if isinstance(tree, Leaf) else _leaves(tree.left) + _leaves(tree.right)


def _products(tree: Tree) -> list[list[int]]:
    """Return the operands of each product of the expression, multiplied out."""
    if isinstance(tree, Leaf):
        return [[tree.number]]
    left, right = _products(tree.left), _products(tree.right)
    return left + right if tree.op is Op.ADD else [a + b for a in left for b in right]


def _check_sums(statement: Statement, tree: Tree) -> None:
    accesses = statement.accesses
    for product in _products(tree):
        has = {i for number in product for i in accesses[number].indices}
        for index in statement.summed:
            if index not in has:
                term = " * ".join(str(accesses[n]) for n in product)
                raise OneKernelError(
                    f"{statement}: the term {term} does not have the summed index {index!r}: "
                    f"it is a kernel of its own"
                )


def _structural(tree: Tree, present: dict[int, int]) -> bool:
    if isinstance(tree, Leaf):
        return bool(present[tree.number])
    left, right = _structural(tree.left, present), _structural(tree.right, present)
    return left and right if tree.op is Op.MUL else left or right


def _evaluate(tree: Tree, value: dict[int, int]) -> int:
    if isinstance(tree, Leaf):
        return value[tree.number]
    left, right = _evaluate(tree.left, value), _evaluate(tree.right, value)
    return left * right if tree.op is Op.MUL else left + right


def _apply(op: Op, a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return {Op.MUL: a * b, Op.ADD: a + b, Op.FIRST: a}[op]
