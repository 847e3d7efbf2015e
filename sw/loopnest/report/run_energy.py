"""The energy of a run by part and by layer, also beside that of another run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 100
"""Columns of a printed table."""

MAX_LARGEST = 4
"""Parts or layers that are named in one line."""


@dataclass(frozen=True)
class RunEnergy:
    """The energy of a run.

    Attributes
    ----------
    parts : mapping of str to float
        Joules of each part of the chip, and of the DRAM.
    multiplies : float
        Useful multiplies of the run.
    sources : tuple of str
        Where the figures are from, and what has no figure or was scaled.
    layers : mapping of str to RunEnergy
        Of each statement of a program, by the name of its result; otherwise empty.
    """

    parts: Mapping[str, float]
    multiplies: float
    sources: tuple[str, ...]
    layers: Mapping[str, "RunEnergy"] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Joules."""
        return sum(self.parts.values())

    @property
    def per_multiply(self) -> float | None:
        """The total in pJ for each multiply; None if there was none."""
        return self.total * 1e12 / self.multiplies if self.multiplies else None

    @property
    def text(self) -> str:
        """The total in uJ, and in pJ a multiply."""
        text = f"{digits(self.total * 1e6)} uJ"
        if self.per_multiply is not None:
            text += f", {digits(self.per_multiply)} pJ a multiply"
        return text

    def __add__(self, other: "RunEnergy") -> "RunEnergy":
        """Return the energy of both, without layers."""
        parts = {
            part: self.parts.get(part, 0.0) + other.parts.get(part, 0.0)
            for part in dict.fromkeys((*self.parts, *other.parts))
        }
        sources = tuple(dict.fromkeys((*self.sources, *other.sources)))
        return RunEnergy(parts, self.multiplies + other.multiplies, sources)

    def scaled(self, factor: float, what: str) -> "RunEnergy":
        """Return the energy of a run of which this is a part, such as of ``"2 of 60 images"``."""
        return RunEnergy(
            {part: factor * joules for part, joules in self.parts.items()},
            factor * self.multiplies,
            (f"estimated from {what}", *self.sources),
            {name: layer.scaled(factor, what) for name, layer in self.layers.items()},
        )

    def beside(
        self, other: "RunEnergy", names: tuple[str, str] = ("sparse", "dense")
    ) -> "Comparison":
        """Return this energy beside another run's, to print: layers have to have the same names."""
        return Comparison(self, other, names)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``."""
        layers = {name: layer._figures() for name, layer in self.layers.items()}
        return {**self._figures(), "sources": list(self.sources), "layers": layers}

    def _figures(self) -> dict[str, Any]:
        return {"parts": dict(self.parts), "total": self.total, "per_multiply": self.per_multiply}

    def __rich__(self) -> RenderableType:
        table = _table("", "uJ", "pJ a multiply", "of which")
        for name, layer in [*self.layers.items(), ("all", self)]:
            each = "-" if layer.per_multiply is None else digits(layer.per_multiply)
            table.add_row(name, digits(layer.total * 1e6), each, largest(layer.parts))
        return Group(table, *map(Text, self.sources))

    def __str__(self) -> str:
        return _printed(self)


@dataclass(frozen=True)
class Comparison:
    """The energies of two runs, by layer and by part.

    Attributes
    ----------
    one, other : RunEnergy
    names : tuple of str
        What they are.
    """

    one: RunEnergy
    other: RunEnergy
    names: tuple[str, str]

    @property
    def times(self) -> float:
        """How many times as much the other one takes."""
        return self.other.total / self.one.total

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``: joules, of what only one has None for the other."""
        own, others = self.names
        return {
            kind: {name: {own: one, others: other} for name, one, other in rows}
            for kind, rows in (("layers", self._layers()), ("parts", self._parts()))
        } | {"total": {own: self.one.total, others: self.other.total}, "times": self.times}

    def _layers(self) -> Iterator[tuple[str, float | None, float | None]]:
        one, other = (
            {name: layer.total for name, layer in energy.layers.items()}
            for energy in (self.one, self.other)
        )
        return _pairs(one, other)

    def _parts(self) -> Iterator[tuple[str, float | None, float | None]]:
        return _pairs(self.one.parts, self.other.parts)

    def __rich__(self) -> RenderableType:
        own, others = self.names
        table = _table("", f"{own}, uJ", f"{others}, uJ", "times")
        all_of = ("all", self.one.total, self.other.total)
        for rows in (self._layers(), [all_of], self._parts()):
            for name, one, other in rows:
                times = digits(other / one) if one and other is not None else "-"
                table.add_row(name, *(_micro(joules) for joules in (one, other)), times)
            table.add_section()
        notes = [
            Text(f"{name}: {source}")
            for name, energy in zip(self.names, (self.one, self.other), strict=True)
            for source in energy.sources
            if not (source in self.one.sources and source in self.other.sources)
        ]
        return Group(table, *notes)

    def __str__(self) -> str:
        return _printed(self)


def added(layers: Mapping[str, RunEnergy]) -> RunEnergy:
    """Return the energy of all layers together, and of each."""
    return replace(sum(layers.values(), RunEnergy({}, 0, ())), layers=dict(layers))


def largest(joules: Mapping[str, float]) -> str:
    """Return the largest with their shares of all."""
    total = sum(joules.values())
    if not total:
        return "-"
    found = sorted(joules.items(), key=lambda item: -item[1])[:MAX_LARGEST]
    return ", ".join(f"{name} {own / total:.0%}" for name, own in found)


def digits(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _pairs(
    one: Mapping[str, float], other: Mapping[str, float]
) -> Iterator[tuple[str, float | None, float | None]]:
    for name in dict.fromkeys((*one, *other)):
        yield name, one.get(name), other.get(name)


def _micro(joules: float | None) -> str:
    return "-" if joules is None else digits(joules * 1e6)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="left" if name == "of which" else "right")
    return table


def _printed(what: RenderableType) -> str:
    console = Console(width=WIDTH, highlight=False, force_terminal=False, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return "\n".join(line.rstrip() for line in capture.get().split("\n")).strip("\n")
