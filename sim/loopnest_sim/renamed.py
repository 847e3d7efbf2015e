"""Finds a design's signals in another text of it, in which they are numbered otherwise.

Amaranth numbers names that occur more than once in a module: ``banks$211``. A signal that is added
to a module, such as a further reset, changes the numbers of others.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

from loopnest_hw.modules import INSTANCE, MODULE

_SIGNAL = re.compile(
    r"^  (?:input |output )?(?:wire |reg )?(?:\[\d+:0\] )?(\\\S+|\w+) ?"
    r"(?:\[\d+:0\] ?)?(?: = [^;]+)?;",
    re.MULTILINE,
)


_ALIAS = re.compile(r"^  assign (\\\S+|\w+) +?= (_\d+_);", re.MULTILINE)
"""A memory's output register, which the Verilog writer names, and the design's name for it."""


@dataclass(frozen=True)
class _Module:
    signals: list[str]
    aliases: dict[str, str]
    instances: dict[str, str]
    """The module of each instance, by its name."""


class Renamed:
    """The names of a design's signals in another text.

    Parameters
    ----------
    text, top : str
        The Verilog with the names that are given, and its top module.
    other, other_top : str
        That with the names that are wanted.
    """

    def __init__(self, text: str, top: str, other: str, other_top: str) -> None:
        self._of: dict[str, tuple[str, dict[str, str]]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._modules, self._others = _modules(text), _modules(other)
        self._visit(top, other_top, "", "")

    def find(self, unit: str, name: str) -> tuple[str, str] | None:
        """Return the path and the name of a unit's signal in the other text; None if it has no
        such unit or signal. Paths are without the top, with slashes.
        """
        path, names = self._of.get(unit, ("", {}))
        name = self._aliases.get(unit, {}).get(name, name)
        return (path, names[name]) if name in names else None

    def _visit(self, name: str, other_name: str, path: str, other_path: str) -> None:
        module, other = self._modules[name], self._others[other_name]
        self._aliases[path] = module.aliases
        self._of[path] = other_path, _match(module.signals, other.signals)
        for inner, found in _match([*module.instances], [*other.instances]).items():
            self._visit(
                module.instances[inner],
                other.instances[found],
                f"{path}/{inner}" if path else inner,
                f"{other_path}/{found}" if other_path else found,
            )


def _match(names: list[str], others: list[str]) -> dict[str, str]:
    """Return the other name of each: the first of those with a stem is the other's first."""
    stems, other_stems = _by_stem(names), _by_stem(others)
    return {
        name: other
        for stem, group in stems.items()
        if stem and len(group) == len(other_stems.get(stem, []))
        for name, other in zip(group, other_stems[stem], strict=True)
    }


def _by_stem(names: list[str]) -> dict[str, list[str]]:
    """Return the names by what precedes their number, in the order of the numbers. Signals
    without a name have only a number, and are left out.
    """
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in dict.fromkeys(names):
        stem, _, number = name.rpartition("$")
        if stem and number.isdecimal():
            found[stem].append((int(number), name))
        elif stem or not number.isdecimal():
            found[name].append((-1, name))
    return {stem: [name for _, name in sorted(group)] for stem, group in found.items()}


def _modules(text: str) -> dict[str, _Module]:
    """Return the modules of a text by name."""
    found = {match[1].removeprefix("\\"): match[0] for match in MODULE.finditer(text)}
    modules = {}
    for name, body in found.items():
        instances = {
            instance.removeprefix("\\"): module.removeprefix("\\")
            for module, instance in INSTANCE.findall(body)
            if module.removeprefix("\\") in found
        }
        signals = [signal.removeprefix("\\") for signal in _SIGNAL.findall(body)]
        aliases = {own: name.removeprefix("\\") for name, own in _ALIAS.findall(body)}
        modules[name] = _Module(signals, aliases, instances)
    return modules
