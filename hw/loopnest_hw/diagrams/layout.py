"""Where boxes and links are drawn: boxes in columns, links at right angles between them.

Links go from left to right as far as they can; those that cannot go back below all boxes. Nothing
is random: the same boxes and links have the same places.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

GAP = 22
"""Pixels between two boxes of a column."""

TRACK = 9
"""Pixels between parallel lines."""

PORT = 13
"""Pixels between the lines at a side of a box."""

STUB = 12
"""Least pixels of a line before it turns."""

NEAR = 10
"""Least pixels between two boxes where that makes a line straight."""

STRAIGHT = 3
"""Pixels by which the ends of a straight line may be off the middle of its ports."""

STRAIGHTENINGS = 5

ROUNDS = 24
"""Passes that order the columns, and that align them."""


@dataclass(frozen=True)
class Node:
    """A box to be placed: its least size, and whether it is as wide as its column."""

    width: int
    height: int
    wide: bool = True


@dataclass(frozen=True)
class Edge:
    """A link of two nodes by their numbers, with the pixels its label needs at its beginning.

    One that goes both ways begins at the left.
    """

    source: int
    target: int
    weight: int
    label_width: int
    both_ways: bool = False


@dataclass
class Place:
    """A placed node: its corner and its size."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0


@dataclass
class Layout:
    """Places of the nodes and points of the edges, and the size of it all."""

    places: list[Place]
    routes: list[list[tuple[int, int]]]
    width: int
    height: int


@dataclass
class _Item:
    """A node in its column, or an edge that passes through it."""

    column: int
    height: int
    node: int | None
    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    y: float = 0


@dataclass
class _Wire:
    """A piece of an edge: from an item to one of the next column."""

    edge: int
    source: int
    target: int
    y1: int = 0
    y2: int = 0


def arrange(nodes: Sequence[Node], edges: Sequence[Edge]) -> Layout:
    """Place nodes and edges."""
    order = _order(len(nodes), edges)
    rank = {node: n for n, node in enumerate(order)}
    edges = [
        replace(e, source=e.target, target=e.source)
        if e.both_ways and rank[e.source] > rank[e.target]
        else e
        for e in edges
    ]
    forward = [e for e in range(len(edges)) if rank[edges[e].source] < rank[edges[e].target]]
    back = [e for e in range(len(edges)) if e not in forward]
    column = _columns(order, edges, forward)

    sides = [[0, 0] for _ in nodes]
    for edge in edges:
        sides[edge.source][1] += 1
        sides[edge.target][0] += 1
    heights = [max(n.height, PORT * (max(s) + 1)) for n, s in zip(nodes, sides, strict=True)]
    items = [_Item(column[n], heights[n], n) for n in range(len(nodes))]
    wires: list[_Wire] = []
    for e in forward:
        ends = [edges[e].source]
        for c in range(column[edges[e].source] + 1, column[edges[e].target]):
            items.append(_Item(c, 2, None))
            ends.append(len(items) - 1)
        ends.append(edges[e].target)
        for a, b in pairwise(ends):
            items[a].after.append(b)
            items[b].before.append(a)
            wires.append(_Wire(e, a, b))
    columns = [
        [i for i, item in enumerate(items) if item.column == c] for c in range(max(column) + 1)
    ]
    _uncross(columns, items)
    _align(columns, items)
    return _route(nodes, edges, columns, items, wires, back)


def _order(count: int, edges: Sequence[Edge]) -> list[int]:
    """Return the nodes in an order against which the least weight of edges goes."""

    def against(order: Sequence[int]) -> tuple[int, int]:
        rank = {node: n for n, node in enumerate(order)}
        back = [e for e in edges if rank[e.source] > rank[e.target] and not e.both_ways]
        return sum(e.weight for e in back), sum(rank[e.source] - rank[e.target] for e in back)

    order = list(range(count))
    best = against(order)
    better = True
    while better:
        better = False
        for size in range(1, count):
            for start in range(count - size + 1):
                moved = order[start : start + size]
                rest = order[:start] + order[start + size :]
                for at in range(len(rest) + 1):
                    tried = [*rest[:at], *moved, *rest[at:]]
                    if (cost := against(tried)) < best:
                        order, best, better = tried, cost, True
                        moved = order[start : start + size]
                        rest = order[:start] + order[start + size :]
    return order


def _columns(order: Sequence[int], edges: Sequence[Edge], forward: Sequence[int]) -> list[int]:
    """Return each node's column: behind all that it comes from, sources right before their use."""
    column = [0] * len(order)
    for node in order:
        before = [edges[e].source for e in forward if edges[e].target == node]
        column[node] = max((column[b] + 1 for b in before), default=0)
    for node in reversed(order):
        after = [edges[e].target for e in forward if edges[e].source == node]
        if after and not any(edges[e].target == node for e in forward):
            column[node] = min(column[a] for a in after) - 1
    return column


def _uncross(columns: list[list[int]], items: list[_Item]) -> None:
    """Order each column so that few wires cross."""

    def crossings() -> int:
        found = 0
        for left in columns:
            place = {i: n for n, c in enumerate(columns) for n, i in enumerate(c)}
            wires = [(place[i], place[t]) for i in left for t in items[i].after]
            found += sum(
                (a[0] - b[0]) * (a[1] - b[1]) < 0 for n, a in enumerate(wires) for b in wires[:n]
            )
        return found

    best, kept = crossings(), [list(c) for c in columns]
    for turn in range(ROUNDS):
        for c in range(len(columns)) if turn % 2 == 0 else reversed(range(len(columns))):
            place = {i: n / len(column) for column in columns for n, i in enumerate(column)}

            def middle(i: int, place: dict[int, float] = place, turn: int = turn) -> float:
                near = items[i].before if turn % 2 == 0 else items[i].after
                return sum(place[n] for n in near) / len(near) if near else place[i]

            columns[c].sort(key=middle)
        better = True
        while better:
            better = False
            for column in columns:
                for n in range(len(column) - 1):
                    before = crossings()
                    column[n], column[n + 1] = column[n + 1], column[n]
                    if crossings() < before:
                        better = True
                    else:
                        column[n], column[n + 1] = column[n + 1], column[n]
        if (found := crossings()) < best:
            best, kept = found, [list(c) for c in columns]
    columns[:] = kept


def _align(columns: list[list[int]], items: list[_Item]) -> None:
    """Give each item a height where its wires are short."""
    for column in columns:
        y = 0.0
        for i in column:
            items[i].y = y + items[i].height / 2
            y += items[i].height + GAP
    for turn in range(ROUNDS):
        for column in columns if turn % 2 == 0 else reversed(columns):
            wished = []
            for i in column:
                near = items[i].before + items[i].after
                wished.append(sum(items[n].y for n in near) / len(near) if near else items[i].y)
            _settle(column, items, wished)
    top = min(item.y - item.height / 2 for item in items)
    for item in items:
        item.y = round(item.y - top)


def _settle(column: Sequence[int], items: list[_Item], wished: Sequence[float]) -> None:
    """Place a column's items in their order as near as can be to where they want to be."""
    blocks: list[list[float]] = []  # first offset's wish summed, items, extent
    groups: list[list[int]] = []
    for i, wish in zip(column, wished, strict=True):
        half = items[i].height / 2
        blocks.append([wish - half, 1, items[i].height + GAP])
        groups.append([i])
        while len(blocks) > 1:
            (a, n, extent), (b, k, more) = blocks[-2:]
            if a / n + extent <= b / k:
                break
            blocks[-2:] = [[a + b - k * extent, n + k, extent + more]]
            groups[-2:] = [groups[-2] + groups[-1]]
    for (total, n, _), group in zip(blocks, groups, strict=True):
        y = total / n
        for i in group:
            items[i].y = y + items[i].height / 2
            y += items[i].height + GAP


def _ports(
    edges: Sequence[Edge], items: list[_Item], wires: list[_Wire], lane: dict[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Set where wires leave and enter their items, in the order of where they go and come from.
    Return the same of the edges that go back.
    """
    outs: list[list[tuple[float, int, int]]] = [[] for _ in items]
    ins: list[list[tuple[float, int, int]]] = [[] for _ in items]
    for n, wire in enumerate(wires):
        outs[wire.source].append((items[wire.target].y, 0, n))
        ins[wire.target].append((items[wire.source].y, 0, n))
    for e, y in lane.items():
        outs[edges[e].source].append((math.inf, -y, e))
        ins[edges[e].target].append((math.inf, -y, e))
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for sides, found in ((outs, starts), (ins, ends)):
        for i, ports in enumerate(sides):
            for n, (_, back, number) in enumerate(sorted(ports)):
                y = round(items[i].y + PORT * (n - (len(ports) - 1) / 2))
                if back:
                    found[number] = y
                elif sides is outs:
                    wires[number].y1 = y
                else:
                    wires[number].y2 = y
    return starts, ends


def _straighten(
    columns: list[list[int]],
    items: list[_Item],
    wires: list[_Wire],
    edges: Sequence[Edge],
    *,
    forward: bool,
) -> None:
    """Move items, where there is room, so that their heaviest wire to one side is straight."""
    for column in columns if forward else reversed(columns):
        for n, i in enumerate(column):
            near = [w for w in wires if i == (w.target if forward else w.source)]
            if not near:
                continue
            wire = max(near, key=lambda w: (edges[w.edge].weight, -abs(w.y1 - w.y2)))
            y = items[i].y + (wire.y1 - wire.y2) * (1 if forward else -1)
            above = [items[a] for a in column[n - 1 : n] if n]
            below = [items[b] for b in column[n + 1 : n + 2]]
            least = max(
                (a.y + (a.height + items[i].height) / 2 + NEAR for a in above), default=-math.inf
            )
            most = min(
                (b.y - (b.height + items[i].height) / 2 - NEAR for b in below), default=math.inf
            )
            if least <= y <= most:
                shift = y - items[i].y
                items[i].y = y
                for w in wires:
                    w.y1 += round(shift) if w.source == i else 0
                    w.y2 += round(shift) if w.target == i else 0


def _route(
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    columns: list[list[int]],
    items: list[_Item],
    wires: list[_Wire],
    back: list[int],
) -> Layout:
    """Draw the wires: each turns in a track of its own between two columns."""
    back = sorted(
        back,
        key=lambda e: items[edges[e].source].column - items[edges[e].target].column,
    )
    lane = {e: TRACK * (n + 1) for n, e in enumerate(back)}
    starts, ends = _ports(edges, items, wires, lane)
    for turn in range(STRAIGHTENINGS):
        _straighten(columns, items, wires, edges, forward=turn % 2 == 0)
        starts, ends = _ports(edges, items, wires, lane)

    top = min(item.y - item.height / 2 for item in items)
    for item in items:
        item.y -= top
    starts, ends = _ports(edges, items, wires, lane)
    for wire, following in zip(wires, [*wires[1:], None], strict=True):
        if abs(wire.y1 - wire.y2) <= STRAIGHT:
            wire.y2 = wire.y1
            if following is not None and following.edge == wire.edge:
                following.y1 = wire.y2
    bottom = int(max(item.y + item.height / 2 for item in items)) + STUB
    lane = {e: bottom + y - TRACK for e, y in lane.items()}

    channels: list[list[tuple[tuple[int, int], tuple[int, int, int]]]] = [
        [] for _ in range(len(columns) + 1)
    ]
    # the key of a turn: 0 a wire, 1 the end and 2 the beginning of one that goes back
    for n, wire in enumerate(wires):
        down = wire.y2 > wire.y1
        if wire.y1 != wire.y2:
            channels[items[wire.target].column].append(
                ((1, -wire.y1) if down else (2, wire.y1), (0, n, 0))
            )
    for e in back:
        channels[items[edges[e].source].column + 1].append(((1, -starts[e]), (2, e, 0)))
        channels[items[edges[e].target].column].append(((3, -ends[e]), (1, e, 0)))
    labels = [0] * (len(columns) + 1)
    for e in range(len(edges)):
        c = items[edges[e].source].column + 1
        labels[c] = max(labels[c], edges[e].label_width)
    track: dict[tuple[int, int, int], int] = {}
    left: list[int] = []
    x = 0
    for c in range(len(columns) + 1):
        turns = sorted(channels[c])
        x += STUB + labels[c] if c else 0
        for n, (_, key) in enumerate(turns):
            track[key] = x + TRACK * n
        if c or turns:
            x += TRACK * len(turns) + STUB + 4
        left.append(x)
        if c < len(columns):
            x += max((nodes[i].width for i in columns[c] if items[i].node is not None), default=0)
    widths = [
        max((nodes[i].width for i in c if items[i].node is not None), default=0) for c in columns
    ]

    places = [Place() for _ in nodes]
    for i, item in enumerate(items):
        if item.node is not None:
            # what is narrow, such as a pin, is at the side that it is connected at
            width = widths[item.column] if nodes[i].wide else nodes[i].width
            at = left[item.column] + (widths[item.column] - width if item.after else 0)
            places[item.node] = Place(at, round(item.y - item.height / 2), width, item.height)

    def exit_x(i: int) -> int:
        c = items[i].column
        return places[i].x + places[i].width if items[i].node is not None else left[c] + widths[c]

    def entry_x(i: int) -> int:
        return places[i].x if items[i].node is not None else left[items[i].column]

    routes: list[list[tuple[int, int]]] = [[] for _ in edges]
    for n, wire in enumerate(wires):
        route = routes[wire.edge]
        route.append((exit_x(wire.source), wire.y1))
        if (0, n, 0) in track:
            route += [(track[0, n, 0], wire.y1), (track[0, n, 0], wire.y2)]
        route.append((entry_x(wire.target), wire.y2))
    for e in back:
        out, into = track[2, e, 0], track[1, e, 0]
        routes[e] = [
            *((exit_x(edges[e].source), starts[e]), (out, starts[e]), (out, lane[e])),
            *((into, lane[e]), (into, ends[e]), (entry_x(edges[e].target), ends[e])),
        ]
    height = bottom + TRACK * len(back) - (0 if back else STUB)
    return Layout(places, routes, x, height)
