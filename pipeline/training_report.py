"""What a training leaves for people: curves as a picture, and a model card in words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.atomic import atomic, write_lines

Row = Mapping[str, float]
_SCORES = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mAP_standard": "mAP", "mINP": "mINP"}


def plot_training(path: Path, history: Sequence[Row]) -> None:
    """Write a PNG: the loss and its parts per epoch; rank-1 and mAP of the test people where they were tested.

    history  rows as `reid.training` gives them. Raises OutputError when the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, score = figure.subplots(1, 2)
    trained = [row for row in history if "loss" in row]
    parts = [name for name in ("info_nce", "triplet", "identity") if any(name in row for row in trained)]
    for name in ["loss", *parts] if len(parts) > 1 else ["loss"]:
        values = [row[name] for row in trained]
        width, dot = 2.0 if name == "loss" else 1.0, "." if len(values) < 3 else ""
        loss.plot([row["epoch"] for row in trained], values, label=name, linewidth=width, marker=dot)
    loss.set_xlabel("epoch")
    loss.set_title("loss of training", loc="left", fontsize=11)
    tested = [row for row in history if "rank1" in row]
    for name in ("rank1", "mAP_standard"):
        if tested:
            score.plot([row["epoch"] for row in tested], [row[name] for row in tested], ".-", label=_SCORES[name])
    if not tested:
        score.text(0.5, 0.5, "no query and gallery", ha="center", transform=score.transAxes)
    score.set_ylim(0, 1)
    score.set_xlabel("epoch")
    score.set_title("people who were not trained on", loc="left", fontsize=11)
    for axes in (loss, score):
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def code_version() -> str:
    """The commit of this program (with `+changes` where files differ from it), or the installed version."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD") if (root / ".git").exists() else ""
    if commit:
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    try:
        return f"identrix {version('identrix')}"
    except PackageNotFoundError:
        return "unknown"


def card_facts(
    config: Mapping[str, Any],
    architecture: Mapping[str, Any],
    data: Mapping[str, Any],
    history: Sequence[Row],
    parameters: int,
    local_shares: Sequence[float] = (),
) -> dict[str, Any]:
    """The card's facts as plain values: they go into the weights file, too.

    local_shares  how much the local branch had to say about each query, where there are two branches
    """
    tested = [row for row in history if "rank1" in row]

    def scores(row: Row) -> dict[str, float]:
        return {label: round(row[name], 4) for name, label in _SCORES.items() if name in row}

    return {
        "architecture": dict(architecture),
        "parameters": parameters,
        "data": dict(data),
        "init": config["init"],
        "recipe": config["recipe"],
        "commit": code_version(),
        "versions": {name: version(name) for name in ("torch", "timm", "torchvision")},
        "epochs": int(history[-1]["epoch"]) if history else 0,
        "loss": round(history[-1].get("loss", float("nan")), 4) if len(history) > 1 else None,
        "local_share": {
            name: round(float(np.quantile(local_shares, at)), 3)
            for name, at in (("lowest", 0), ("median", 0.5), ("highest", 1))
            if len(local_shares)
        },
        "scores": {"before": scores(tested[0]), "after": scores(tested[-1])} if tested else {},
    }


def write_card(path: Path, name: str, facts: Mapping[str, Any], problems: Iterable[str]) -> None:
    """Write the model card (Markdown). Raises OutputError."""
    data, scores = facts["data"], facts["scores"]
    lines = [
        f"# {name}",
        "",
        f"A person re-identification network of {facts['parameters']:,} parameters: RGB crops in, unit embeddings out.",
        f"Trained by Identrix ({facts['commit']}) for {facts['epochs']} epochs, from init `{facts['init']}`.",
        "",
        "## Use",
        "",
        "    identrix run --set reid.encoder=network.safetensors ...",
        "",
        "Refit the calibration on your site first (`identrix calibrate`): cosines of two networks differ in meaning.",
        "",
        "## Data",
        "",
        *(f"- {key.replace('_', ' ')}: {value}" for key, value in data.items()),
        *(f"- {problem}" for problem in problems),
        "",
        "## Scores",
        "",
    ]
    if scores:
        names = list(scores["after"])
        lines += [
            "Query against gallery, single images, cosine; nobody in them was trained on.",
            "",
            "| | " + " | ".join(names) + " |",
            "|---" * (len(names) + 1) + "|",
            *("| " + " | ".join([when, *(f"{scores[when][n]:.3f}" for n in names)]) + " |" for when in scores),
        ]
    else:
        lines.append("Not tested: the data had no query and gallery.")
    if share := facts["local_share"]:
        spoke = ", ".join(f"{name} {100 * value:.0f} %" for name, value in share.items())
        lines += ["", f"Share of the local branch (`{facts['architecture']['local_backbone']}`) per query: {spoke}."]
    plain = yaml.safe_dump({"architecture": facts["architecture"], "recipe": facts["recipe"]}, sort_keys=False)
    lines += ["", "## Recipe", "", *(f"    {line}" for line in plain.splitlines()), "", "## Limits", ""]
    lines += [
        "It was tested on the data above and on nothing else. Who may use it follows from the licence of the data.",
        f"Built with {', '.join(f'{package} {number}' for package, number in facts['versions'].items())}.",
    ]
    write_lines(path, [f"{line}\n".encode() for line in lines])


def read_training(folder: Path) -> dict[str, Any]:
    """`training.json` of a training's folder; empty when there is none or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
