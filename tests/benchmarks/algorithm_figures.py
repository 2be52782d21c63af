"""The pictures of docs/algorithm.md, drawn by the functions they explain: python -m tests.benchmarks.algorithm_figures

No footage: delays and similarities are drawn from distributions written below.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from st_model.scoring import joint_calibrated
from st_model.transitions import ONE, Increment, TransitionTables
from st_model.witness_fit import fit_by_crowds

FOLDER = Path(__file__).parents[2] / "docs" / "algorithm"
BLUE, RED, GREY = "#4292c6", "#d94801", "#666666"


def walks(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) seconds: four in five walk straight through, one in five stops on the way."""
    straight = rng.random(n) < 0.8
    return np.where(straight, rng.normal(20.0, 3.0, n), rng.normal(55.0, 10.0, n))


def table_after(n: int, rng: np.random.Generator) -> TransitionTables:
    """The tables after n walks from a to b."""
    tables = TransitionTables()
    bins = [tables.settings.bin_of(float(delay)) for delay in walks(n, rng)]
    tables.add(Increment("a", "b", 0, b, ONE) for b in bins if b is not None)
    return tables


def panels(count: int) -> tuple[Figure, list]:
    figure = Figure(figsize=(3.6 * count, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, count))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def draw_density() -> Figure:
    figure, axes = panels(3)
    for ax, n in zip(axes, (3, 30, 300), strict=True):
        tables = table_after(n, np.random.default_rng(4))
        s = tables.settings
        at = s.origin_s + (np.arange(s.bins) + 0.5) * s.bin_s
        seen = (at > -20) & (at < 120)
        ax.bar(at[seen], tables.histogram("a", "b")[seen] / n, s.bin_s, color=BLUE, alpha=0.5, label="observed")
        ax.plot(at[seen], tables.density("a", "b")[seen], color=RED, label="density")
        ax.set_title(f"{n} observations", fontsize=9)
        ax.set_xlabel("delay from exit in a to entry in b, s", fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def draw_joint() -> Figure:
    figure, axes = panels(2)
    for ax, n in zip(axes, (0, 300), strict=True):
        tables = table_after(n, np.random.default_rng(4))
        s = tables.settings
        at = s.origin_s + (np.arange(s.bins) + 0.5) * s.bin_s
        seen = (at > -20) & (at < 120)
        log_r = tables.log_ratio("a", "b")[seen].astype(np.float64)
        for cosine, style in ((0.3, ":"), (0.5, "--"), (0.7, "-")):
            joint = joint_calibrated(np.full(len(log_r), cosine), log_r, g0=16.0, b0=-8.0, g1=1.0)
            ax.plot(at[seen], joint, style, color=RED, label=f"cosine {cosine}")
        ax.set_ylim(0, 1)
        ax.set_title(f"table of {n} observations", fontsize=9)
        ax.set_xlabel("delay, s", fontsize=8)
        ax.set_ylabel("joint", fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def draw_fit() -> Figure:
    rng = np.random.default_rng(0)
    apart = rng.normal(size=4000)
    near = np.concatenate([rng.normal(4.0, 1.2, 800), rng.normal(size=9200)])
    far = np.concatenate([rng.normal(4.0, 1.2, 60), rng.normal(size=29_940)])
    fit = fit_by_crowds(apart, [near, far])
    figure, axes = panels(2)
    edges = np.linspace(-4, 8, 61)
    for z, name, colour in ((apart, "apart: in view together", GREY), (near, "near in time", RED), (far, "far", BLUE)):
        axes[0].hist(z, edges, density=True, histtype="step", color=colour, label=name)
    axes[0].set_yscale("log")
    axes[0].set_xlabel("similarity, in spreads of strangers", fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    axes[0].set_title("what is seen: mixtures, no labels", fontsize=9)
    z = np.linspace(-2, 6, 100)
    true = (z**2 / 2 - (z - 4.0) ** 2 / (2 * 1.2**2)) - np.log(1.2)
    axes[1].plot(z, true, color=GREY, label="log-odds that drew them")
    axes[1].plot(z, fit.slope * z + fit.offset, color=RED, label="fitted line")
    axes[1].axhline(0, color=GREY, lw=0.5)
    axes[1].set_ylim(-10, 12)
    axes[1].set_xlabel("similarity, in spreads of strangers", fontsize=8)
    axes[1].legend(fontsize=8, frameon=False)
    axes[1].set_title("what is learnt", fontsize=9)
    return figure


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, figure in (("density", draw_density()), ("joint", draw_joint()), ("fit", draw_fit())):
        figure.savefig(FOLDER / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
