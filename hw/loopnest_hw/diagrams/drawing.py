"""Diagrams as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .connections import Box, Inside, Link
from .layout import Edge, Layout, Node, arrange

COLORS = {
    "chip": "#e9edf2",
    "stream": "#dcebff",
    "row": "#dcf5e1",
    "leaf": "#fbe3e4",
    "accumulate": "#ffe9cf",
    "result": "#ece4fb",
    "arith": "#fdf3c8",
}
"""Colour of each folder's boxes; others are nearly white."""

PLAIN = "#f7f9fb"

TIMES = "\N{MULTIPLICATION SIGN}"

STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;fill:#123}"
    ".t{font-size:13px;text-anchor:middle}.h{font-size:14px;font-weight:bold}"
    ".s{font-size:10.5px;fill:#567;text-anchor:middle}.c{font-size:11px;fill:#456}"
    ".l{font-size:10.5px;fill:#234}.w{font-size:10px;fill:#789}"
    ".p{font-size:11.5px;font-style:italic;text-anchor:middle;fill:#234}"
    ".a{fill:none;stroke:#345;stroke-width:1.5}.b{fill:none;stroke:#9aabba;stroke-width:1}"
)

MARGIN = 22
TITLE = 46
RADIUS = 5
BOX_HEIGHT = 42
PIN_HEIGHT = 20
STACK = 4
"""Pixels by which the boxes of a stack are apart."""

MAIN_WEIGHT, STREAM_WEIGHT, WIRE_WEIGHT = 20, 8, 1
"""How much a link has to go from left to right."""


@dataclass(frozen=True)
class Panel:
    """A unit's diagram."""

    title: str
    subtitle: str
    inside: Inside


def draw(panels: Sequence[Panel], label: str) -> str:
    """Return the panels below each other as the text of an SVG file."""
    parts: list[str] = []
    width, y = 0, MARGIN
    drawn = [_Drawing(panel) for panel in panels]
    width = max(d.layout.width for d in drawn) + 4 * MARGIN
    for drawing in drawn:
        height = drawing.layout.height + TITLE + MARGIN - 4
        parts += [
            f'<rect x="{MARGIN}" y="{y}" width="{width - 2 * MARGIN}" height="{height}" rx="5" '
            'fill="#fcfdfe" stroke="#9ab"/>',
            f'<text class="h" x="{2 * MARGIN - 6}" y="{y + 22}">{escape(drawing.panel.title)}'
            f'<tspan class="c" dx="10" font-weight="normal">{escape(drawing.panel.subtitle)}'
            "</tspan></text>",
        ]
        left = 2 * MARGIN + (width - 4 * MARGIN - drawing.layout.width) // 2
        parts += [f'<g transform="translate({left} {y + TITLE})">', *drawing.svg(), "</g>"]
        y += height + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" '
            f'height="{y}" role="img" aria-label="{escape(label)}">',
            "<defs>" + _marker("m", "#345") + _marker("n", "#9aabba"),
            f"<style>{STYLE}</style></defs>",
            f'<rect width="{width}" height="{y}" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _marker(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{color}"/></marker>'
    )


@dataclass(frozen=True)
class _Line(Link):
    """A link as it is drawn."""

    both_ways: bool = False


class _Drawing:
    """A panel with its layout. Ports to the outside are pins, nodes of their own."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.nodes: list[Box | str] = list(panel.inside.boxes)
        numbers = {box.name: n for n, box in enumerate(panel.inside.boxes)}
        pins: dict[tuple[bool, str], int] = {}

        def number(end: str | None, link: _Line, is_source: bool) -> int:
            if end is not None:
                return numbers[end]
            name = ", ".join(link.labels) or ("i" if is_source else "o")
            if (is_source, name) not in pins:
                pins[is_source, name] = len(self.nodes)
                self.nodes.append(name)
            return pins[is_source, name]

        self.links = _merged(panel.inside.links)
        ends = [
            (number(link.source, link, True), number(link.target, link, False))
            for link in self.links
        ]
        self.texts = [
            "" if None in (link.source, link.target) else _names(link) for link in self.links
        ]
        edges = [
            Edge(*end, _weight(link), _text_width(text, 5.4) + 5, link.both_ways)
            for end, link, text in zip(ends, self.links, self.texts, strict=True)
        ]
        self.layout: Layout = arrange(
            [_node(n, "" if isinstance(n, str) else self.short_file(n)) for n in self.nodes], edges
        )

    def short_file(self, box: Box) -> str:
        """Return a box's file, without the folder where that is the panel's."""
        folder = self.panel.subtitle.rpartition("/")[0]
        return box.file.removeprefix(f"{folder}/") if folder else box.file or "memory"

    def svg(self) -> list[str]:
        """Return the elements, lines first."""
        parts: list[str] = []
        for link, text, route in sorted(
            zip(self.links, self.texts, self.layout.routes, strict=True),
            key=lambda item: item[0].is_stream,
        ):
            kind, marker = ("a", "m") if link.is_stream else ("b", "n")
            hint = f"{link.source or ''} to {link.target or ''}: {', '.join(link.labels) or 'i'}"
            start = f' marker-start="url(#{marker})"' if link.both_ways else ""
            parts.append(
                f'<path class="{kind}"{start} marker-end="url(#{marker})" d="{_path(route)}">'
                f"<title>{escape(hint.strip())}</title></path>"
            )
            if text:
                x, y = route[0][0] + (5 if link.both_ways else 0), route[0][1]
                style = "l" if link.is_stream else "w"
                parts.append(f'<text class="{style}" x="{x + 5}" y="{y - 3}">{escape(text)}</text>')
        for node, place in zip(self.nodes, self.layout.places, strict=True):
            x, y, width, height = place.x, place.y, place.width, place.height
            middle = x + width // 2
            if isinstance(node, str):
                parts += [
                    _rectangle(x, y, width, height, "#fff", PIN_HEIGHT // 2),
                    f'<text class="p" x="{middle}" y="{y + height // 2 + 4}">{escape(node)}</text>',
                ]
                continue
            color = COLORS.get(node.file.partition("/")[0] if "/" in node.file else "", PLAIN)
            for n in range(2 if node.count > 1 else 0, 0, -1):
                parts.append(
                    _rectangle(x + STACK * n, y - STACK * n, width - 2 * STACK * n, height, color)
                )
            title = node.name.replace("_", " ") + (
                f" {TIMES}{node.count}" if node.count > 1 else ""
            )
            parts += [
                _rectangle(x, y, width, height, color),
                f'<text class="t" x="{middle}" y="{y + height // 2 - 2}">{escape(title)}</text>',
                f'<text class="s" x="{middle}" y="{y + height // 2 + 13}">'
                f"{escape(self.short_file(node))}</text>",
            ]
        return parts


def _merged(links: Sequence[Link]) -> list[_Line]:
    """Return the links, with wires both ways as one."""
    wires = {(link.source, link.target): link for link in links if not link.is_stream}
    lines = []
    for link in links:
        other = None if link.is_stream else wires.get((link.target, link.source))
        if other is None:
            lines.append(_Line(**vars(link)))
        elif str(link.source) < str(link.target):
            labels = (*link.labels, *other.labels)
            lines.append(_Line(link.source, link.target, labels, link.is_stream, both_ways=True))
    return lines


def _weight(line: _Line) -> int:
    if line.is_main:
        return MAIN_WEIGHT
    return STREAM_WEIGHT if line.is_stream else WIRE_WEIGHT


def _names(line: _Line) -> str:
    """Return what is written at a line; a tooltip has all."""
    text = "".join(line.labels[:1]).replace("_", " ")
    more = len(line.labels) - 1
    return f"{text} +{more}" if more > 0 else text


def _text_width(text: str, pixels: float) -> int:
    return round(len(text) * pixels) + 8 if text else 0


def _node(node: Box | str, file: str) -> Node:
    if isinstance(node, str):
        return Node(_text_width(node, 6.2) + 14, PIN_HEIGHT, wide=False)
    title = _text_width(node.name + (" x9" if node.count > 1 else ""), 7)
    return Node(max(88, title, _text_width(file, 5.4)) + 8, BOX_HEIGHT)


def _rectangle(x: int, y: int, width: int, height: int, fill: str, radius: int = RADIUS) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" '
        'stroke="#345"/>'
    )


def _path(route: Sequence[tuple[int, int]]) -> str:
    """Return a line through the points, with round corners."""
    points = [p for n, p in enumerate(route) if n == 0 or p != route[n - 1]]
    text = f"M{points[0][0]} {points[0][1]}"
    for n, (x, y) in enumerate(points[1:-1], 1):
        (x0, y0), (x1, y1) = points[n - 1], points[n + 1]
        if (x0 == x == x1) or (y0 == y == y1):
            continue
        near = min(RADIUS, (abs(x - x0) + abs(y - y0)) // 2, (abs(x1 - x) + abs(y1 - y)) // 2)
        text += f" L{x + _step(x0 - x, near)} {y + _step(y0 - y, near)}"
        text += f" Q{x} {y} {x + _step(x1 - x, near)} {y + _step(y1 - y, near)}"
    return f"{text} L{points[-1][0]} {points[-1][1]}"


def _step(distance: int, most: int) -> int:
    return max(-most, min(most, distance))
