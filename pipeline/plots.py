"""Pictures of what a run learnt and saw: transition histograms with their Parzen curves, and who was where when.

matplotlib's object interface on the Agg canvas: needs no screen, touches no global state. Imported only when called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import person_colour
from pipeline.atomic import atomic
from pipeline.site_order import with_numbers
from st_model.calibration import Reliability

if TYPE_CHECKING:
    import pyarrow as pa

_BARS, _CURVE, _GREY = "#9ecae1", "#d94801", "#666666"
MAX_PERSONS = 100  # rows of a timeline that can still be told apart
MAX_ARROWS = 40  # between cameras, with labels that can still be read
FORMATS = ("png", "svg", "pdf")
"""What a picture may be written as; the ending of its name says which."""


def median_delay_s(counts: NDArray[np.float64], bin_s: float, origin_s: float) -> float | None:
    """Median of a histogram of delays, interpolated inside its bin; None of an empty one.

    >>> median_delay_s(np.array([0.0, 2.0, 2.0]), bin_s=1.0, origin_s=-1.0)
    1.0
    """
    total = float(counts.sum())
    if total <= 0:
        return None
    below = np.concatenate([[0.0], np.cumsum(counts)])
    position = float(np.interp(total / 2, below, np.arange(len(below))))
    return origin_s + bin_s * position


def plot_transition(
    path: Path,
    *,
    from_camera: str,
    to_camera: str,
    counts: NDArray[np.float64],
    density: NDArray[np.float64],
    bin_s: float,
    origin_s: float,
) -> None:
    """Write a PNG of one camera pair: observed delays as bars, the smoothed density as a curve.

    counts   (B,) observations per bin of `bin_s` seconds, the first beginning at `origin_s`
    density  (B,) probability per bin, sums to 1 (as `TransitionTables.density`)

    Raises ValueError when the shapes do not fit, OutputError when the file cannot be written.
    """
    if counts.shape != density.shape or counts.ndim != 1:
        raise ValueError(f"counts {counts.shape} and density {density.shape} must be two rows of equal length")
    figure, axes = _figure(7.0, 3.6)
    evidence = float(counts.sum())
    edges_s = origin_s + bin_s * np.arange(len(counts) + 1)
    if evidence > 0:
        # One outline: a bar each of 2,000 bins takes matplotlib more than a second.
        axes.stairs(counts / evidence / bin_s, edges_s, fill=True, color=_BARS, label="observed")
    axes.plot(edges_s[:-1] + bin_s / 2, density / bin_s, color=_CURVE, linewidth=1.8, label="Parzen estimate")
    median_s = median_delay_s(counts, bin_s, origin_s)
    if median_s is not None:
        axes.axvline(median_s, color=_GREY, linestyle="--", linewidth=1.0, label=f"median {median_s:.1f} s")
    axes.set_xlim(*_interesting(counts, edges_s))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("from last seen to first seen, seconds")
    axes.set_ylabel("share per second")
    axes.set_title(f"{from_camera} → {to_camera}    {evidence:.3g} transitions", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def plot_timeline(path: Path, tracks: pa.Table) -> None:
    """Write a PNG with a row per person and a bar per stay, coloured by camera.

    tracks  the tracks table (pipeline/tracks_table.py)

    Persons are ordered by their first appearance. With more than `MAX_PERSONS` the ones in most cameras, then with the
    most stays, are shown, and the title says so. Raises OutputError when the file cannot be written.
    """
    import pyarrow.compute as pc
    from matplotlib.patches import Patch

    grouped = tracks.group_by(["global_id", "camera", "track_id"]).aggregate([("time_s", "min"), ("time_s", "max")])
    names = sorted(pc.unique(tracks["camera"]).to_pylist())
    stays: dict[int, list[tuple[str, float, float]]] = {}
    for row in grouped.to_pylist():
        stays.setdefault(row["global_id"], []).append((row["camera"], row["time_s_min"], row["time_s_max"]))
    persons = _rows_of_timeline(stays)
    figure, axes = _figure(9.0, max(2.2, 1.3 + 0.22 * len(persons)))
    colours = _camera_colours(names)
    begin_s = min((start for person in persons for _, start, _ in stays[person]), default=0.0)
    end_s = max((end for person in persons for _, _, end in stays[person]), default=1.0)
    hairline_s = 0.002 * max(end_s - begin_s, 1.0)  # a stay of one frame must still be seen
    for row, person in enumerate(persons):
        mine = sorted(stays[person], key=lambda stay: stay[1])
        axes.plot(
            [mine[0][1] - begin_s, max(s[2] for s in mine) - begin_s],
            [row, row],
            color="#cccccc",
            linewidth=1,
            zorder=1,
        )
        spans = [(start - begin_s, max(end - start, hairline_s)) for _, start, end in mine]
        axes.broken_barh(spans, (row - 0.36, 0.72), facecolors=[colours[name] for name, _, _ in mine], zorder=2)
    axes.set_yticks(range(len(persons)), [f"P{person}" for person in persons], fontsize=8)
    for label, person in zip(axes.get_yticklabels(), persons, strict=True):
        label.set_bbox({"facecolor": _rgb(person), "alpha": 0.35, "edgecolor": "none", "pad": 1.0})
    axes.set_ylim(len(persons) - 0.4, -0.6)
    axes.set_xlabel("seconds since the first person was seen")
    left_out = f" ({len(persons)} of {len(stays)}, those seen in most cameras)" if len(persons) < len(stays) else ""
    axes.set_title(f"{len(stays)} persons, {grouped.num_rows} stays{left_out}", loc="left", fontsize=11)
    handles = [Patch(color=colours[name], label=name) for name in names]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    _save(figure, path)


def _rows_of_timeline(stays: Mapping[int, Sequence[tuple[str, float, float]]]) -> list[int]:
    def travelled(person: int) -> tuple[int, int]:
        return len({camera for camera, _, _ in stays[person]}), len(stays[person])

    shown = sorted(stays, key=travelled, reverse=True)[:MAX_PERSONS]
    return sorted(shown, key=lambda person: (min(start for _, start, _ in stays[person]), person))


def _camera_colours(names: Sequence[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab10"] if len(names) <= 10 else colormaps["turbo"].resampled(len(names))
    return {name: palette(n) for n, name in enumerate(names)}


def _rgb(person: int) -> tuple[float, float, float]:
    blue, green, red = person_colour(person)
    return red / 255, green / 255, blue / 255


def _interesting(counts: NDArray[np.float64], edges_s: NDArray[np.floating]) -> tuple[float, float]:
    """The part of the axis where something was observed, with some air; all of it when nothing was."""
    filled = np.flatnonzero(counts > 0)
    if not len(filled):
        return float(edges_s[0]), float(edges_s[-1])
    low, high = float(edges_s[filled[0]]), float(edges_s[filled[-1] + 1])
    air = max(0.25 * (high - low), 4 * float(edges_s[1] - edges_s[0]))
    return max(float(edges_s[0]), min(low - air, 0.0)), min(float(edges_s[-1]), high + air)


def _figure(width_in: float, height_in: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110, format=Path(path).suffix[1:].lower())


def plot_camera_graph(path: Path, moves: pa.Table) -> None:
    """Write a PNG of the cameras and who goes where: an arrow per direction, as wide as it is used.

    moves  the transitions table (pipeline/movements.py); labels give the number of moves and their median delay

    Raises OutputError when the file cannot be written.
    """
    pairs: dict[tuple[str, str], list[float]] = {}
    for row in moves.to_pylist():
        pairs.setdefault((row["from_camera"], row["to_camera"]), []).append(row["delay_s"])
    edges = {pair: (len(delays), float(np.median(delays))) for pair, delays in pairs.items()}
    plot_graph(path, edges, title="moves (median delay)", without="nobody went from one camera to another")


def plot_graph(
    path: Path, edges: Mapping[tuple[str, str], tuple[float, float | None]], *, title: str, without: str
) -> None:
    """Write a picture (`FORMATS`) of cameras on a circle, an arrow per ordered pair, as wide as it is strong.

    edges    (from, to) -> (how often, median delay in seconds); a camera to itself is told below its name
    without  what to write when there is no edge

    The `MAX_ARROWS` strongest are drawn, and the title says so. Raises OutputError when the file cannot be written.
    """
    names = sorted({name for pair in edges for name in pair}, key=with_numbers)
    crowded = len(names) > 12
    arrows = sorted((pair for pair in edges if pair[0] != pair[1]), key=lambda pair: (-edges[pair][0], pair))
    side_in = 5.0 if len(names) < 8 else min(7.0 + 0.15 * max(len(names) - 12, 0), 14.0)
    figure, axes = _figure(max(7.0, 1.2 * side_in), side_in)
    axes.set_axis_off()
    left_out = f", the {MAX_ARROWS} strongest of {len(arrows)}" if len(arrows) > MAX_ARROWS else ""
    axes.set_title(f"{title}{left_out}", loc="left", fontsize=11)
    axes.set_aspect("equal")
    axes.set_xlim(-1.6, 1.6)
    axes.set_ylim(-1.3, 1.3)
    angles = np.pi - 2 * np.pi * np.arange(len(names)) / max(len(names), 1)
    places = {name: np.array([np.cos(a), np.sin(a)]) for name, a in zip(names, angles, strict=True)}
    most = max((edges[pair][0] for pair in arrows), default=1.0)
    for pair in arrows[:MAX_ARROWS]:
        often, median_s = edges[pair]
        start, end = places[pair[0]], places[pair[1]]
        width = 0.8 + 4.2 * often / most
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=0.18", "color": _CURVE}
        arrow |= {"shrinkA": 11 if crowded else 22, "shrinkB": 11 if crowded else 22}
        arrow |= {"mutation_scale": 9 + 2 * width, "linewidth": width, "alpha": 0.55}
        axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
        along = end - start
        aside = np.array([along[1], -along[0]]) * 0.11  # the side to which arc3 bends
        # Near its origin: in the middle the labels of all diagonals would meet.
        label: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": "#333333", "zorder": 4}
        label |= {"bbox": {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.6}}
        axes.text(*(start + 0.3 * along + aside), _often(often, median_s), **label)
    for name, place in places.items():
        box = {"boxstyle": f"round,pad={0.2 if crowded else 0.5}", "facecolor": "white", "edgecolor": _GREY}
        axes.text(*place, name, ha="center", va="center", fontsize=7 if crowded else 10, bbox=box, zorder=5)
        if (name, name) in edges:
            side = "center" if abs(place[0]) < 0.2 else "left" if place[0] > 0 else "right"
            label = {"ha": side, "va": "center", "fontsize": 8, "color": _GREY}
            axes.text(*(place * 1.2), f"returns\n{_often(*edges[name, name])}", **label)
    if not edges:
        axes.text(0, 0, without, ha="center", color=_GREY)
    _save(figure, path)


def _often(often: float, median_s: float | None) -> str:
    count = f"{often:.0f}" if often >= 9.95 or often == round(often) else f"{often:.1f}"
    return count if median_s is None else f"{count} ({median_s:.0f} s)"


def plot_reliability(path: Path, diagrams: Mapping[str, Reliability], title: str) -> None:
    """Write a PNG of reliability diagrams: how often what was predicted with some probability came true.

    diagrams  name -> diagram; dots are as large as their bin is heavy, on a logarithmic scale

    Raises OutputError when the file cannot be written.
    """
    figure, axes = _figure(6.0, 5.4)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1.0)
    for number, (name, diagram) in enumerate(diagrams.items()):
        seen = diagram.weight > 0
        x, y, weight = diagram.predicted[seen], diagram.observed[seen], diagram.weight[seen]
        label = f"{name}: expected calibration error {diagram.error:.3f}"
        axes.plot(x, y, color=f"C{number}", linewidth=1.6, label=label)
        axes.scatter(x, y, s=8 + 10 * np.log10(1 + weight), color=f"C{number}", zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted probability of one person")
    axes.set_ylabel("observed share")
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    _save(figure, path)
