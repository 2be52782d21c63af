"""Pictures of transition histograms and of the timeline: what they show, taken from the figure itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import plots
from pipeline.atomic import OutputError
from pipeline.plots import MAX_PERSONS, median_delay_s, plot_camera_graph, plot_graph, plot_timeline, plot_transition


@pytest.fixture
def drawn(monkeypatch):
    """The axes of every picture that was saved."""
    kept = []
    save = plots._save

    def keep(figure, path):
        save(figure, path)
        kept.append(figure.axes[0])

    monkeypatch.setattr(plots, "_save", keep)
    return kept


def tracks(*stays: tuple[str, int, int, float, float]) -> pa.Table:
    """(camera, track id, global id, begin, end): two boxes per stay are enough."""
    rows = [(camera, track, who, time_s) for camera, track, who, *times in stays for time_s in times]
    names = ("camera", "track_id", "global_id", "time_s")
    columns = list(zip(*rows, strict=True)) or [()] * 4
    types = (pa.string(), pa.int64(), pa.int64(), pa.float64())
    return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})


def test_a_transition_is_drawn_as_shares_per_second_with_its_curve(tmp_path, drawn):
    counts = np.array([0, 0, 3.0, 1.0, 0, 0, 0, 0])
    density = np.full(8, 1 / 8)
    plot_transition(
        tmp_path / "t.png", from_camera="a", to_camera="b", counts=counts, density=density, bin_s=0.5, origin_s=-1.0
    )
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    axes = drawn[0]
    (outline,) = axes.patches
    shares, edges_s, _ = outline.get_data()
    assert dict(zip(edges_s[:-1], shares * 0.5, strict=True)) == pytest.approx(
        {-1.0: 0, -0.5: 0, 0.0: 0.75, 0.5: 0.25, 1.0: 0, 1.5: 0, 2.0: 0, 2.5: 0}
    )
    curve, median = axes.lines
    assert curve.get_ydata() == pytest.approx(0.25)  # 1/8 per bin of half a second
    assert curve.get_xdata()[0] == pytest.approx(-0.75)
    assert median.get_xdata()[0] == pytest.approx(1 / 3)
    assert "a → b" in axes.get_title(loc="left") and "4 transitions" in axes.get_title(loc="left")


def test_a_cold_pair_has_a_curve_and_no_median(tmp_path, drawn):
    flat = np.full(10, 0.1)
    plot_transition(
        tmp_path / "t.png", from_camera="a", to_camera="b", counts=0 * flat, density=flat, bin_s=1.0, origin_s=-2.0
    )
    axes = drawn[0]
    assert len(axes.lines) == 1
    assert axes.get_xlim() == (-2.0, 8.0)
    assert "0 transitions" in axes.get_title(loc="left")


def test_shapes_must_fit(tmp_path):
    with pytest.raises(ValueError, match="equal length"):
        plot_transition(
            tmp_path / "t.png",
            from_camera="a",
            to_camera="b",
            counts=np.zeros(3),
            density=np.zeros(4),
            bin_s=1.0,
            origin_s=0.0,
        )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any), st.sampled_from([0.25, 1.0, 2.0]))
def test_half_of_the_transitions_are_faster_than_the_median(counts, bin_s):
    table = np.array(counts, float)
    median_s = median_delay_s(table, bin_s, -3.0)
    edges_s = -3.0 + bin_s * np.arange(len(table) + 1)
    below = np.interp(median_s, edges_s, np.concatenate([[0], np.cumsum(table)]))
    assert below == pytest.approx(table.sum() / 2)


def test_the_median_of_nothing_is_none():
    assert median_delay_s(np.zeros(4), 1.0, 0.0) is None


def test_the_timeline_has_a_row_per_person_in_order_of_appearance(tmp_path, drawn):
    table = tracks(("b", 3, 7, 15.0, 19.0), ("a", 1, 9, 10.0, 12.0), ("b", 2, 9, 20.0, 25.0))
    plot_timeline(tmp_path / "t.png", table)
    axes = drawn[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["P9", "P7"]
    spans = [[path.get_extents().intervalx.tolist() for path in bars.get_paths()] for bars in axes.collections]
    assert spans == [[[0, 2], [10, 15]], [[5, 9]]]
    assert axes.get_title(loc="left") == "2 persons, 3 stays"
    faces = [tuple(colour) for bars in axes.collections for colour in bars.get_facecolors()]
    assert faces[1] == faces[2] != faces[0]  # colours tell the camera


def test_a_crowd_is_cut_and_the_picture_says_so(tmp_path, drawn):
    crowd = [("a", n, n, float(n), n + 1.0) for n in range(MAX_PERSONS + 20)]
    traveller = ("b", 999, MAX_PERSONS + 19, 500.0, 501.0)
    plot_timeline(tmp_path / "t.png", tracks(*crowd, traveller))
    axes = drawn[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == MAX_PERSONS
    assert f"P{MAX_PERSONS + 19}" in names  # the one who was in two cameras
    assert f"({MAX_PERSONS} of {MAX_PERSONS + 20}" in axes.get_title(loc="left")


def test_nobody_is_a_picture_too(tmp_path, drawn):
    plot_timeline(tmp_path / "t.png", tracks())
    assert drawn[0].get_title(loc="left") == "0 persons, 0 stays"


@pytest.mark.parametrize(
    ("name", "begins"), [("g.png", b"\x89PNG"), ("g.PNG", b"\x89PNG"), ("g.svg", b"<?xml"), ("g.pdf", b"%PDF")]
)
def test_a_picture_is_written_as_its_name_says(tmp_path, name, begins):
    plot_graph(tmp_path / name, {("a", "b"): (3.0, 4.0)}, title="t", without="w")
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_picture_that_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        plot_timeline(tmp_path / "absent" / "t.png", tracks(("a", 1, 1, 0.0, 1.0)))


def moves(*rows: tuple[str, str, float]) -> pa.Table:
    names = ("from_camera", "to_camera", "delay_s")
    types = (pa.string(), pa.string(), pa.float64())
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})


def test_the_camera_graph_has_an_arrow_per_direction(tmp_path, drawn):
    plot_camera_graph(tmp_path / "g.png", moves(("a", "b", 4.0), ("a", "b", 8.0), ("b", "a", 3.0), ("c", "a", 1.0)))
    axes = drawn[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert {"a", "b", "c", "2 (6 s)", "1 (3 s)", "1 (1 s)"} <= set(texts)
    arrows = [text.arrow_patch for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 3
    assert arrows[0].get_linewidth() > arrows[1].get_linewidth() == arrows[2].get_linewidth()
    to_b, to_a = texts["2 (6 s)"].get_position(), texts["1 (3 s)"].get_position()
    assert np.hypot(to_b[0] - to_a[0], to_b[1] - to_a[1]) > 0.2  # labels of the two directions stand apart


def test_a_site_without_moves_has_a_graph_that_says_so(tmp_path, drawn):
    plot_camera_graph(tmp_path / "g.png", moves())
    assert [text.get_text() for text in drawn[0].texts] == ["nobody went from one camera to another"]
