"""The diagrams in docs/diagrams are what the hardware's units give."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

import loopnest_hw
from loopnest_hw.diagrams.__main__ import FOLDER, UNITS, diagram
from loopnest_hw.diagrams.connections import Box, Link, inside
from loopnest_hw.diagrams.drawing import Panel, draw
from loopnest_hw.diagrams.layout import Edge, Node, arrange
from loopnest_hw.queue import Queue
from loopnest_hw.row.ones import Ones

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", UNITS)
def test_committed(name: str) -> None:
    """`make diagrams` writes the same again."""
    assert (ROOT / FOLDER / f"{name}.svg").read_text(encoding="utf-8") == diagram(name)


def test_every_folder_has_one() -> None:
    """Every folder of units has a diagram, which is linked, but `arith`, whose units have no
    streams.
    """
    hardware = Path(loopnest_hw.__file__).parent
    folders = {path.parent.name for path in hardware.glob("*/__init__.py")}
    folders -= {"arith", "diagrams", "power"}
    assert folders | {"pe"} == set(UNITS)
    assert {path.stem for path in (ROOT / FOLDER).iterdir()} == set(UNITS)
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert all(f"diagrams/{name}.svg" in text for name in UNITS)


class Outer(wiring.Component):
    """Two queues in a row, crossed by a wire, and a memory beside them."""

    def __init__(self, swapped: bool = False) -> None:
        self._swapped = swapped
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "n": In(4)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.queue_0 = first = Queue(8, 2)
        m.submodules.queue_1 = second = Queue(8, 2)
        m.submodules.ones = ones = Ones()
        ends = (second, first) if self._swapped else (first, second)
        connect(m, flipped(self.i), ends[0].i)
        with m.If(self.n == 3):
            connect(m, ends[0].o, ends[1].i)
        connect(m, ends[1].o, flipped(self.o))
        m.d.sync += ones.size.eq(first.o.payload)
        return m


def test_connections() -> None:
    """Streams are found through conditions; settings from outside are left out."""
    found = inside(Outer())
    assert found.boxes == (Box("queue", 2, "queue.py"), Box("ones", 1, "row/ones.py"))
    assert found.links == (
        Link(None, "queue", (), True, True),
        Link("queue", None, (), True, True),
        Link("queue", "ones", ("o",), False),
    )
    text = draw([Panel("Outer", "outer.py", found)], "x")
    assert text == draw([Panel("Outer", "outer.py", inside(Outer()))], "x")
    assert text.count('class="a"') == 2 and text.count('class="b"') == 1


def test_layout() -> None:
    """Boxes do not overlap; a cycle has one link that goes back."""
    nodes = [Node(50, 20) for _ in range(6)]
    edges = [Edge(a, b, 1, 0) for a, b in ((0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (5, 4), (0, 4))]
    layout = arrange(nodes, edges)
    places = layout.places
    for n, a in enumerate(places):
        assert 0 <= a.x <= a.x + a.width <= layout.width and 0 <= a.y <= layout.height
        for b in places[:n]:
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x
            assert apart or a.y + a.height <= b.y or b.y + b.height <= a.y
    back = [route for route in layout.routes if route[0][0] > route[-1][0]]
    assert len(back) == 1
    for edge, route in zip(edges, layout.routes, strict=True):
        source, target = places[edge.source], places[edge.target]
        assert route[0][0] == source.x + source.width and route[-1][0] == target.x
        assert source.y <= route[0][1] <= source.y + source.height
        for (x0, y0), (x1, y1) in pairwise(route):
            assert x0 == x1 or y0 == y1
