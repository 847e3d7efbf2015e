"""The room that images need in memory."""

from typing import Any

from loopnest.graph.graph import Node
from loopnest.graph.image import find_room


def test_branches_that_join_again_are_followed_once() -> None:
    """Sixty layers of ``x * hardsigmoid(x)`` have 2 ** 60 ways to their end, a convolution."""
    nodes, name = [], "x"
    for n in range(60):
        nodes.append(Node(f"h{n}", "hardsigmoid", (name,)))
        nodes.append(Node(f"y{n}", "mul", (name, f"h{n}")))
        name = f"y{n}"
    attributes = {"stride": (2, 1), "padding": ((1, 1), (2, 2)), "dilation": (1, 1)}
    nodes.append(Node("z", "conv", (name, "w"), attributes))
    uses: dict[str, list[Node]] = {}
    for node in nodes:
        for one in node.inputs:
            uses.setdefault(one, []).append(node)
    shapes: dict[str, Any] = {node.result: (1, 4, 8, 8) for node in nodes}
    shapes |= {"x": (1, 4, 8, 8), "z": (1, 4, 4, 8), "w": (4, 4, 3, 5)}
    room = find_room("x", uses, shapes, {})
    assert room == find_room(name, uses, shapes, {})
    assert room.strides == (2, 1) and room.border[1] == (2, 2)
