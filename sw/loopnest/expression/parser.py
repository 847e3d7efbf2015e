"""Parses tensor index notation, as in TACO and SAM, and einsum strings, to expression trees.

    statement = access "=" sum
    sum       = product (("+" | "-") product)*
    product   = factor ("*" factor)*
    factor    = "-" factor | "(" sum ")" | access | [ "-" ] decimal
    access    = name [ "[" [ place ("," place)* ] "]" ]
    place     = part ("+" part | "-" number)*
    part      = [ number "*" ] index | number

A decimal is a number such as ``2``, ``0.5`` or ``1e-3``: a scalar operand that is not passed. An
index that does not appear on the left is summed over. The result has an index at each place, and a
statement may end in ``where [not] access``, a mask.
"""

import re
from dataclasses import replace
from math import isfinite
from string import ascii_uppercase

from loopnest_hw.config import POSITION_BITS

from ..arguments import MAX_SIZE, string
from .notation import (
    DECIMAL,
    Access,
    Binary,
    Expression,
    Mask,
    Negate,
    Place,
    Statement,
    accesses,
    moved_modes,
    with_accesses,
    written_place,
)

MAX_OPERATORS = 200
"""Maximum number of operators, signs and opening parentheses: each may add a level of nesting."""

MAX_DIGITS = 40
"""Characters of a number."""

TOKEN = re.compile(rf"\s*([A-Za-z_]\w*|{DECIMAL}|[-+*=,()\[\]]|$)")


def parse(text: str) -> Statement:
    """Parse a statement such as ``"C[i,j] = A[i,k] * B[k,j]"``.

    Raises
    ------
    ValueError
        With the position (in characters, from 0) of unexpected text, or for a statement of more
        than `MAX_OPERATORS`.
    TypeError
        For an argument that is not a string.
    """
    return _Parser(string("statement", text)).statement()


def parse_einsum(subscripts: str, operands: int) -> Statement:
    """Translate an einsum string such as ``"ik,kj->ij"``; operands are named A to Z, A1, B1 ....

    Without ``->`` the result has the indices that appear once, in alphabetic order.

    Raises
    ------
    ValueError
        For a malformed string or a number of terms other than ``operands``.
    TypeError
        For an argument that is not a string.
    """
    compact = string("subscripts", subscripts).replace(" ", "")
    if not re.fullmatch(r"[A-Za-z]*(,[A-Za-z]*)*(->[A-Za-z]*)?", compact):
        bad = re.search(r"[^A-Za-z,\->]|-(?!>)|(?<!-)>", compact)
        at = f" at position {bad.start()}" if bad else ""
        raise ValueError(f'einsum {subscripts!r}{at}: expected letters such as "ik,kj->ij"')
    left, arrow, right = compact.partition("->")
    terms = left.split(",")
    if len(terms) != operands:
        raise ValueError(
            f"einsum {subscripts!r}: {len(terms)} terms for {operands} operand"
            f"{'s' * (operands != 1)}"
        )
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    names = [f"{ascii_uppercase[n % 26]}{n // 26 or ''}" for n in range(operands)]
    product = " * ".join(f"{n}[{','.join(t)}]" for n, t in zip(names, terms, strict=True))
    return parse(f"result[{','.join(right)}] = {product}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.token = ""
        self.start = 0
        self.operators = 0
        self.advance()

    def error(self, what: str) -> ValueError:
        found = repr(self.token) if self.token else "the end"
        return ValueError(f"position {self.start} of {self.text!r}: {found}, expected {what}")

    def advance(self) -> None:
        match = TOKEN.match(self.text, self.at)
        if match is None:
            self.start = self.at + len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
            self.token = self.text[self.start]
            instead = "a name, an operator (+ - *), a bracket or ="
            raise self.error("no division, * and a number" if self.token == "/" else instead)
        self.token, self.start, self.at = match[1], match.start(1), match.end()

    def accept(self, *tokens: str) -> str | None:
        if self.token and self.token in tokens:
            taken = self.token
            self.advance()
            return taken
        return None

    def operator(self, *tokens: str) -> str | None:
        """Accept a token that may add a level of nesting."""
        found = self.accept(*tokens)
        self.operators += found is not None
        if self.operators > MAX_OPERATORS:
            raise ValueError(
                f"{self.text[:40]!r}...: more than {MAX_OPERATORS} operators and parentheses: "
                f"expected several statements"
            )
        return found

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise self.error(repr(token))

    def statement(self) -> Statement:
        result = self.access()
        self.expect("=")
        start = self.start
        expression = self.sum()
        mask = self.mask() if self.token == "where" else None
        if self.token:
            raise self.error("an operator or the end")
        if result.places is not None:
            raise ValueError(f"{self.text!r}: result {result}: expected each index once, alone")
        if mask is not None:
            for index in mask.access.indices:
                if mask.access.places is not None or index not in result.indices:
                    raise ValueError(
                        f"{self.text!r}: mask {mask.access}: expected indices of the result"
                    )
        known = {i for access in accesses(expression) for i in access.indices}
        for index in result.indices:
            if index not in known:
                raise ValueError(
                    f"position {start} of {self.text!r}: no operand has index {index!r} of "
                    f"{result}: expected each index of the result on the right"
                )
        if result.name in {access.tensor for access in accesses(expression)}:
            raise ValueError(f"{self.text!r}: {result.name!r} is on both sides")
        return Statement(result, _alike(expression), mask)

    def mask(self) -> Mask:
        self.advance()
        complement = self.accept("not") is not None
        return Mask(self.access(), complement)

    def sum(self) -> Expression:
        left = self.product()
        while op := self.operator("+", "-"):
            left = Binary(op, left, self.product())
        return left

    def product(self) -> Expression:
        left = self.factor()
        while self.operator("*"):
            left = Binary("*", left, self.factor())
        return left

    def factor(self) -> Expression:
        if self.operator("-"):
            return self.decimal("-") if self.is_decimal else Negate(self.factor())
        if self.is_decimal:
            return self.decimal("")
        if self.operator("("):
            inner = self.sum()
            self.expect(")")
            if isinstance(inner, Binary) and inner.op == "*":
                return replace(inner, grouped=True)
            return inner
        return self.access()

    @property
    def is_decimal(self) -> bool:
        """Whether a number is next."""
        return self.token[:1].isdecimal() or self.token[:1] == "."

    def decimal(self, sign: str) -> Access:
        if not isfinite(float(self.token)):
            raise self.error("a finite number")
        if len(self.token) > MAX_DIGITS:
            raise self.error(f"a number of up to {MAX_DIGITS} characters")
        found = Access(sign + self.token, ())
        self.advance()
        return found

    def name(self, what: str) -> str:
        if not self.token.isidentifier():
            raise self.error(what)
        taken = self.token
        self.advance()
        return taken

    def number(self) -> int:
        # Python refuses long ones, which are slow to convert
        if len(self.token) > len(str(MAX_SIZE)) or int(self.token) > MAX_SIZE:
            raise self.error(f"a number up to 2^{POSITION_BITS}")
        number = int(self.token)
        self.advance()
        return number

    def access(self) -> Access:
        name = self.name("a tensor's name")
        places: list[Place] = []
        if self.accept("["):
            while not self.accept("]"):
                if places and not self.accept(","):
                    raise self.error("',' or ']'")
                places.append(self.place())
        plain = [place.plain for place in places]
        indices = tuple(dict.fromkeys(i for place in places for i, _ in place.terms))
        if None not in plain and len(indices) == len(places):
            return Access(name, indices)
        return Access(f"{name}[{','.join(map(written_place, places))}]", indices, tuple(places))

    def place(self) -> Place:
        terms: dict[str, int] = {}
        offset = 0
        while True:
            factor = 1
            if self.token.isdecimal():
                factor = self.number()
                if not self.accept("*"):
                    offset += factor
                    factor = 0
            if factor:
                index = self.name("an index")
                terms[index] = terms.get(index, 0) + factor
            while self.accept("-"):
                if not self.token.isdecimal():
                    raise self.error("a number: a view's indices have no sign")
                offset -= self.number()
            if not self.accept("+"):
                break
        return Place(tuple(terms.items()), offset)


def _alike(expression: Expression) -> Expression:
    """Return the expression with ``x[i]`` as a view too, if there is also an ``x[i+1]``."""
    moved = moved_modes(accesses(expression))

    def alike(access: Access) -> Access:
        name, indices = access.name, access.indices
        if access.places is not None or all(
            (name, *place) not in moved for place in enumerate(indices)
        ):
            return access
        places = tuple(Place(((i, 1),), 0) for i in indices)
        return Access(f"{name}[{','.join(indices)}]", indices, places)

    return with_accesses(expression, alike)
