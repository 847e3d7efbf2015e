"""Compiles Liberty's Boolean expressions to functions of NumPy words."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

Function: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Takes the words of each pin by name; every bit is a cycle."""

_TOKEN = re.compile(r"[A-Za-z_]\w*(?:\[\d+\])?|[01]|[!'&*|+^()]")


@cache
def compile_expression(text: str) -> tuple[Function, frozenset[str]]:
    """Return the function of an expression and the pins that it reads.

    Inversion (``!a`` or ``a'``) binds most, then ``^``, then ``&``, ``*`` or nothing between two
    operands, then ``|`` or ``+``.

    Raises
    ------
    ValueError
        If it is not an expression.
    """
    parser = _Parser(text)
    python = parser.sums()
    if parser.token():
        raise ValueError(f"expression {text!r}: expected its end before {parser.token()!r}")
    # the text has only the pins' names, as string constants, and operators
    return eval(f"lambda pins: {python}"), frozenset(parser.pins)


class _Parser:
    """Translates an expression to Python's operators."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._tokens = _TOKEN.findall(text)
        self.pins: set[str] = set()

    def token(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def sums(self) -> str:
        terms = [self._product()]
        while self.token() in ("|", "+"):
            self._at += 1
            terms.append(self._product())
        return f"({' | '.join(terms)})"

    def _product(self) -> str:
        terms = [self._difference()]
        while (token := self.token()) and token not in ("|", "+", ")"):
            if token in ("&", "*"):
                self._at += 1
            terms.append(self._difference())
        return f"({' & '.join(terms)})"

    def _difference(self) -> str:
        terms = [self._operand()]
        while self.token() == "^":
            self._at += 1
            terms.append(self._operand())
        return f"({' ^ '.join(terms)})"

    def _operand(self) -> str:
        token = self.token()
        self._at += 1
        if token == "!":
            return f"~{self._operand()}"
        if token == "(":
            found = self.sums()
            if self.token() != ")":
                raise ValueError(f"expression {self._text!r}: expected ) ")
            self._at += 1
        elif token in ("0", "1"):
            found = f"pins[{token!r}]"
        elif token and token[0] not in "&*|+^)'":
            self.pins.add(token)
            found = f"pins[{token!r}]"
        else:
            raise ValueError(f"expression {self._text!r}: expected a pin, not {token!r}")
        while self.token() == "'":
            self._at += 1
            found = f"(~{found})"
        return found
