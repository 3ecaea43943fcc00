"""Charts and crystals as small SVG: colours come from the page's style sheet, so they follow its light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

#: size of a chart in its own units, and the room around its axes
WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 10, 42

#: larger crystals are drawn in the cell that they have; cosine up to which an angle still is a right one; how far
#: outside the cell (in fractions of it) an atom still is on its face
LARGE, SKEW, EDGE = 24, 0.12, 0.04


@dataclass(frozen=True)
class Series:
    """One curve: x, y (None: no point), a name for the legend, and how it looks.

    colour: number of a colour of the page (0: neutral); kind: "line" (with its points), "points", "step" (y[i] holds
    from x[i] to x[i + 1]), or "area" (a step filled down to 0). notes: what a pointer over each point says.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 1
    kind: str = "line"
    notes: Sequence[str] = ()


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    log: bool = False,
    marks: Sequence[tuple[float, float, str]] = (),
    diagonal: bool = False,
    whole: bool = False,
    zero: bool = False,
    x_range: tuple[float, float] | None = None,
    height: int = HEIGHT,
) -> str:
    """A chart with its legend. marks: ranges of x that are shaded, with what a pointer over them says.

    log: y on a logarithmic scale; diagonal: the line y = x, and equal ranges; whole: x ticks at whole numbers; zero: y
    begins at 0. Without any point a sentence instead of a chart.
    """
    points = [(x, y) for s in series for x, y in zip(s.x, s.y, strict=False) if y is not None and (y > 0 or not log)]
    if not points:
        return f'<p class="none">no data: {escape(y_label)}</p>'
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x_low, x_high = x_range or (min(xs), max(xs))
    y_low, y_high = min(ys), max(ys)
    if diagonal:
        x_low = y_low = min(x_low, y_low)
        x_high = y_high = max(x_high, y_high)
    if log:
        y_low, y_high = y_low / 1.3, y_high * 1.3
    else:
        if zero or (not diagonal and 0 < y_low < 0.6 * y_high):
            y_low = min(0.0, y_low)
        pad = 0.06 * (y_high - y_low) or abs(y_high) * 0.05 or 1.0
        y_high += pad
        y_low -= pad if y_low != 0 else 0
    if not x_range:
        pad = 0.04 * (x_high - x_low) or 0.5
        x_low, x_high = x_low - pad, x_high + pad
    if diagonal:
        x_low, x_high = y_low, y_high

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        part = math.log(y / y_low) / math.log(y_high / y_low) if log else (y - y_low) / (y_high - y_low)
        return height - BOTTOM - part * (height - TOP - BOTTOM)

    out = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(y_label)} against {escape(x_label)}">']
    for low, high, note in marks:
        left, right = px(max(low, x_low)), px(min(high, x_high))
        out.append(
            f'<rect class="mark" x="{left - 0.8:.1f}" y="{TOP}" width="{right - left + 1.6:.1f}" '
            f'height="{height - TOP - BOTTOM}"><title>{escape(note)}</title></rect>'
        )
    y_ticks = _log_ticks(y_low, y_high) if log else _ticks(y_low, y_high, 5)
    for y, text in zip(y_ticks, _texts(y_ticks), strict=True):
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        out.append(f'<text class="tick end" x="{LEFT - 6}" y="{py(y) + 4:.1f}">{text}</text>')
    x_ticks = _ticks(x_low, x_high, 6)
    if whole:
        step = max(1, round((x_high - x_low) / 10))
        x_ticks = [float(k) for k in range(math.ceil(x_low), math.floor(x_high) + 1, step)]
    for x, text in zip(x_ticks, _texts(x_ticks), strict=True):
        out.append(f'<text class="tick middle" x="{px(x):.1f}" y="{height - BOTTOM + 16}">{text}</text>')
    if y_low < 0 < y_high and not log:
        out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(0):.1f}" y2="{py(0):.1f}"/>')
    out.append(
        f'<path class="axis" d="M{LEFT} {TOP}V{height - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<text class="label middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 8}">{escape(x_label)}</text>'
        f'<text class="label middle" transform="translate(13 {(TOP + height - BOTTOM) / 2}) rotate(-90)">'
        f"{escape(y_label)}</text>"
    )
    if diagonal:
        out.append(f'<path class="axis dash" d="M{px(x_low):.1f} {py(y_low):.1f}L{px(x_high):.1f} {py(y_high):.1f}"/>')
    for s in series:
        out.append(_curve(s, px, py, log, height - BOTTOM))
    out.append("</svg>")
    return f'<div class="chart">{legend(series)}{"".join(out)}</div>'


def legend(series: Sequence[Series]) -> str:
    """Names beside samples of their colours; nothing for a single curve."""
    if len(series) < 2:
        return ""
    names = "".join(f'<span><i class="b{s.colour} {s.kind}"></i>{escape(s.name)}</span>' for s in series)
    return f'<div class="legend">{names}</div>'


def _curve(s: Series, px, py, log: bool, floor: float) -> str:  # type: ignore[no-untyped-def]
    points = [
        (px(x), py(y), k)
        for k, (x, y) in enumerate(zip(s.x, s.y, strict=False))
        if y is not None and (y > 0 or not log)
    ]
    if not points:
        return ""
    if s.kind in ("step", "area"):
        edges = [px(x) for x in s.x]
        path = f"M{edges[0]:.1f} {floor:.1f}" if s.kind == "area" else ""
        for x, y, k in points:
            path += f"{'L' if path else 'M'}{x:.1f} {y:.1f}H{edges[min(k + 1, len(edges) - 1)]:.1f}"
        if s.kind == "area":
            return f'<path class="f{s.colour} area" d="{path}V{floor:.1f}Z"/>'
        return f'<path class="c{s.colour}" d="{path}"/>'
    out = ""
    if s.kind == "line" and len(points) > 1:
        out += f'<path class="c{s.colour}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)}"/>'
    radius = 3.4 if len(points) <= 60 else 1.6
    for x, y, k in points:
        note = f"<title>{escape(s.notes[k])}</title>" if k < len(s.notes) else ""
        out += f'<circle class="f{s.colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{note}</circle>'
    return out


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between low and high, at most about `most`."""
    raw = (high - low) / most
    step = 10 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 in every decade; only the decades where there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    return [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]


def _texts(ticks: Sequence[float]) -> list[str]:
    """All with as many decimals as the one that needs most."""
    ticks = [0.0 if abs(tick) < 1e-12 else tick for tick in ticks]
    if any(0 < abs(tick) < 1e-4 for tick in ticks):
        return [f"{tick:.0e}" for tick in ticks]
    decimals = max((len(f"{tick:.6g}".partition(".")[2]) for tick in ticks), default=0)
    even = max(map(abs, ticks), default=0) < 10 * max(1.0, min((abs(t) for t in ticks if t), default=1.0))
    return [f"{tick:.{decimals}f}" if even or not decimals else f"{tick:g}" for tick in ticks]


def crystal(species: Sequence[str], cell: np.ndarray, positions: np.ndarray, title: str) -> str:
    """A crystal seen from a little above: atoms as discs, nearest last, in the conventional cell, with its edges.

    species: of each atom; cell (3, 3) and positions (n, 3) in Å. Colours are Jmol's.
    """
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors

    symbols, cell, atoms = _conventional(species, np.asarray(cell, dtype=float), np.asarray(positions, dtype=float))
    turn, tilt = np.radians(-28.0), np.radians(18.0)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    view = about_z.T @ about_x.T  # x to the right, z up, y into the page
    corners = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    seen, box = atoms @ view, (corners @ cell) @ view
    radii = np.array([0.62 * covalent_radii[atomic_numbers[s]] for s in symbols])
    low = np.minimum((seen - radii[:, None]).min(axis=0), box.min(axis=0))
    high = np.maximum((seen + radii[:, None]).max(axis=0), box.max(axis=0))
    size = 200.0
    scale = (size - 8) / max(high[0] - low[0], high[2] - low[2])
    middle = (high + low) / 2

    def place(point: np.ndarray) -> tuple[float, float]:
        return size / 2 + scale * (point[0] - middle[0]), size / 2 - scale * (point[2] - middle[2])

    out = [f'<svg class="crystal" viewBox="0 0 {size:g} {size:g}" role="img" aria-label="{escape(title)}">']
    for a in range(8):
        for b in range(a + 1, 8):
            if np.abs(corners[a] - corners[b]).sum() == 1:
                (x1, y1), (x2, y2) = place(box[a]), place(box[b])
                out.append(f'<line class="axis" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    depth = seen[:, 1]
    span = max(float(np.ptp(depth)), 1e-9)
    for k in np.argsort(-depth):
        x, y = place(seen[k])
        colour = jmol_colors[atomic_numbers[symbols[k]]]
        far = 0.45 * (depth[k] - depth.min()) / span
        red, green, blue = (round(255 * (c * (1 - far) + 0.6 * far)) for c in colour)
        out.append(
            f'<circle class="atom" cx="{x:.1f}" cy="{y:.1f}" r="{scale * radii[k]:.1f}" '
            f'fill="rgb({red},{green},{blue})"/>'
        )
    out.append("</svg>")
    present = sorted(set(species))
    names = "".join(
        f'<span><i style="background:rgb({",".join(str(round(255 * c)) for c in jmol_colors[atomic_numbers[e]])})"></i>'
        f"{e}</span>"
        for e in present
    )
    return f'<div class="picture">{"".join(out)}<div class="legend">{names}</div></div>'


def _conventional(
    species: Sequence[str], cell: np.ndarray, positions: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The crystal in its conventional cell, as in textbooks: atoms on faces, edges and corners shown on all of them.

    Symbols, cell (3, 3) and positions of what is drawn. Large crystals keep their cell.
    """
    atoms = positions @ np.linalg.inv(cell)
    copies = [atoms]
    if len(species) <= LARGE and (upright := _upright_cell(cell)) is not None:
        shifts = np.array(list(np.ndindex(9, 9, 9))) - 4
        copies = list((atoms[None] + shifts[:, None]).transpose(1, 0, 2))
        copies = [_unique(np.mod(copy @ cell @ np.linalg.inv(upright), 1.0)) for copy in copies]
        cell = upright
    else:
        copies = [atom[None] for atom in atoms]
    places, symbols = [], []
    for symbol, copy in zip(species, copies, strict=True):
        for point in np.mod(copy, 1.0):
            for shift in np.ndindex(3, 3, 3):
                moved = point + np.array(shift) - 1.0
                if np.all((moved > -EDGE) & (moved < 1.0 + EDGE)):
                    places.append(moved @ cell)
                    symbols.append(symbol)
    return symbols, cell, np.array(places)


def _unique(points: np.ndarray) -> np.ndarray:
    """Each of some fractional points once, whole numbers apart counting as the same."""
    folded = np.round(points, 5) % 1.0
    return points[np.unique(folded, axis=0, return_index=True)[1]]


def _upright_cell(cell: np.ndarray) -> np.ndarray | None:
    """The smallest cell with nearly right angles among the lattice's short vectors, along x, y, z as far as they go.

    None if the cell is a good picture already (its angles are near 90° or 120°), or there is no such cell.
    """
    lengths = np.linalg.norm(cell, axis=1)
    cosines = np.abs((cell @ cell.T / np.outer(lengths, lengths))[[0, 0, 1], [1, 2, 2]])
    if np.all((cosines < SKEW) | (np.abs(cosines - 0.5) < SKEW)) and np.sum(cosines > SKEW) <= 1:
        return None
    steps = np.array([step for step in np.ndindex(5, 5, 5) if step != (2, 2, 2)]) - 2
    steps = steps[np.argsort(np.linalg.norm(steps @ cell, axis=1), kind="stable")][:70]
    vectors = steps @ cell
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    square = np.abs(units @ units.T) < SKEW
    askew = np.abs(units).max(axis=1) < 1 - SKEW**2
    own = abs(float(np.linalg.det(cell)))
    best, least = None, np.inf
    for a in range(len(vectors)):
        for b in np.flatnonzero(square[a, a + 1 :]) + a + 1:
            for c in np.flatnonzero(square[a] & square[b]):
                volume = abs(float(np.linalg.det(vectors[[a, b, c]])))
                if c <= b or not 1e-6 < volume < 4.5 * own:
                    continue
                # the axes of a prototype are those of its textbook cell: a smaller one across them comes last
                cost = volume - 4.5 * own * (not askew[[a, b, c]].any())
                if cost < least - 1e-6:
                    best, least = vectors[[a, b, c]], cost
    if best is None:
        return None
    axes = np.argmax(np.abs(best), axis=1)
    if len(set(axes.tolist())) == 3:
        best = best[np.argsort(axes)]
    return best * np.where(best[np.arange(3), np.argmax(np.abs(best), axis=1)] < 0, -1.0, 1.0)[:, None]
