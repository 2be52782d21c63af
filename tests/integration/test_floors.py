"""Quality does not fall: the quick measurements stay on the right side of the committed floors (tests/floors.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.quality_floors import FLOORS, PARTS

ENTRIES: dict[str, dict[str, Any]] = json.loads(FLOORS.read_text())["floors"]


def hold(part: str, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare every floor of a part; fails with all figures that are on the wrong side."""
    wrong = []
    for run, limits in ENTRIES[part]["runs"].items():
        for figure, limit in limits.items():
            value = float(measured[run][figure])
            if value < limit.get("at_least", value):
                wrong.append(f"{part}, {run}: {figure} is {value:.4f}, the floor is {limit['at_least']}")
            if value > limit.get("at_most", value):
                wrong.append(f"{part}, {run}: {figure} is {value:.4f}, the ceiling is {limit['at_most']}")
    assert not wrong, "\n".join([*wrong, f"measured with: {ENTRIES[part]['command']}"])


@pytest.mark.parametrize("part", ["world/easy", "world/middle", "world/hard"])
def test_world_of_sightings(part, tmp_path):
    hold(part, PARTS[part](tmp_path, tmp_path))


@pytest.mark.slow
def test_demo(tmp_path):
    hold("demo", PARTS["demo"](tmp_path, tmp_path))


@pytest.mark.slow
def test_training(tmp_path):
    hold("training", PARTS["training"](tmp_path, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["market_stream/osnet_msmt", "market_stream/osnet_market", "vcam_dev"])
def test_real_people(part, data_dir: Path, tmp_path, request):
    folder = part.split("/")[0]
    if not (data_dir / folder).is_dir():
        pytest.skip(f"{folder} is not in $IDENTRIX_DATA")
    if part == "vcam_dev":
        request.getfixturevalue("models_dir")
    hold(part, PARTS[part](data_dir, tmp_path))


def test_there_is_a_floor_for_every_part():
    assert set(ENTRIES) == set(PARTS)
    for entry in ENTRIES.values():
        assert any("at_least" in limit for figures in entry["runs"].values() for limit in figures.values())


@pytest.mark.parametrize("part", PARTS)
def test_a_figure_on_the_wrong_side_is_named(part):
    runs = ENTRIES[part]["runs"]
    for run, limits in runs.items():
        for figure, limit in limits.items():
            side, step = ("floor", -0.01) if "at_least" in limit else ("ceiling", 0.01)
            worst = {
                name: {f: edge.get("at_least", edge.get("at_most")) for f, edge in figures.items()}
                for name, figures in runs.items()
            }
            hold(part, worst)
            worst[run][figure] += step
            with pytest.raises(AssertionError, match=f"{part}, {run}: {figure} is .*, the {side} is") as failure:
                hold(part, worst)
            assert ENTRIES[part]["command"] in str(failure.value)
