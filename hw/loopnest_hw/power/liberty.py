"""Reads Liberty files: groups, attributes and tables, whatever they mean.

PyPI's mature parser (``liberty-parser``) is under the GPL, which this project is not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:[^"\\]|\\.)*"|[{}():;,]|[^\s{}():;,"]+|\\\s*\n', re.DOTALL
)


@dataclass
class Group:
    """A group: its kind, its arguments, the attributes by name and the groups within.

    A complex attribute, ``name (a, b);``, has its arguments joined by commas.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def all(self, kind: str) -> Iterator["Group"]:
        """Return the groups of a kind, in order."""
        return (group for group in self.groups if group.kind == kind)

    def first(self, *kinds: str) -> "Group | None":
        """Return the first group of any of these kinds, or None."""
        return next((group for group in self.groups if group.kind in kinds), None)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return an attribute as a number."""
        return float(self.attributes.get(name, default))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return the numbers of a complex attribute, such as ``values``."""
        return np.array(re.split(r"[,\s]+", self.attributes[name].strip(" ,")), np.float64)


def parse(text: str) -> Group:
    """Return the library of a Liberty file.

    Raises
    ------
    ValueError
        If it is not one; the message says where.
    """
    tokens = [
        token[1:-1].replace("\\\n", "") if token[0] == '"' else token
        for token in _TOKEN.findall(text)
        if not token.startswith(("/*", "//", "\\"))
    ]
    root = Group("")
    end = _statements(tokens, 0, root)
    if end != len(tokens) or len(root.groups) != 1:
        raise ValueError(f"Liberty, token {end} of {len(tokens)}: expected one library")
    return root.groups[0]


def _statements(tokens: list[str], at: int, into: Group) -> int:
    """Read statements up to the group's end; return the place of what follows them."""
    while at < len(tokens) and tokens[at] != "}":
        name = tokens[at]
        if name == ";":
            at += 1
        elif tokens[at + 1 : at + 2] == [":"]:
            end = at + 2
            while tokens[end] not in (";", "}") and not _begins(tokens, end, at + 3):
                end += 1
            into.attributes[name] = " ".join(tokens[at + 2 : end])
            at = end
        elif tokens[at + 1 : at + 2] == ["("]:
            end = tokens.index(")", at)
            arguments = tuple(token for token in tokens[at + 2 : end] if token != ",")
            if tokens[end + 1 : end + 2] == ["{"]:
                group = Group(name, arguments)
                into.groups.append(group)
                end = _statements(tokens, end + 2, group)
            else:
                into.attributes[name] = ",".join(arguments)
                into.lists.setdefault(name, []).append(",".join(arguments))
            at = end + 1
        else:
            raise ValueError(f"Liberty, {' '.join(tokens[at : at + 5])!r}: expected a statement")
    return at


def _begins(tokens: list[str], at: int, least: int) -> bool:
    """Return whether a statement begins: some files leave out the semicolon before it."""
    return at >= least and tokens[at + 1 : at + 2] in ([":"], ["("])
