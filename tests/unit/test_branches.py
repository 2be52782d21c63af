"""Which branch of a dual backbone spoke: from the network over run folder and message to `explain`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from door import QUICK, ROOT, identrix
from hypothesis import example, given
from hypothesis import strategies as st
from sighting_streams import unit
from tiny_onnx import write_channel_means

from pipeline.journal import json_line, sighting_from_json, sighting_to_json
from pipeline.messages import WorkerSaid, packed_said, unpacked_said
from pipeline.sightings_file import (
    SightingsFileError,
    read_branch_weights,
    read_sightings,
    without_embeddings,
    write_sightings,
)
from reid.branches import mean_weights, weighed
from reid.encoders import EncoderError, Preprocessing, load_encoder
from reid.onnx_encoder import OnnxEncoder
from reid.openvino_encoder import OpenVinoEncoder
from reid.pair import PairEncoder
from st_model.sightings import Sighting

torch = pytest.importorskip("torch")

from reid.dual_backbone import Architecture, DualBackboneNet, load, save  # noqa: E402
from reid.export import export_onnx  # noqa: E402

SMALL = Architecture("test_resnet", "test_vit", height_px=64, width_px=32, projection_dim=16, embedding_dim=8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual backbone whose attention has an opinion."""
    torch.manual_seed(0)
    network = DualBackboneNet(SMALL).eval()
    with torch.no_grad():
        network.attention[2].weight.mul_(20)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save(network, path)
    return path


def crops(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (4, 2, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(n)]


def sighting(weights: object = None, track_id: int = 1, camera: str = "a") -> Sighting:
    look = unit(np.arange(1.0, 5.0))
    return Sighting(camera, track_id, 0.0, 1.0, 1.0 + track_id, True, look, branch_weights=weights)


def shares(local: float) -> np.ndarray:
    return np.array([local, 1 - local], np.float32)


# ------------------------------------------------------------------------------------------------ encoders


def test_an_encoder_tells_the_weights_of_its_network(small: Path) -> None:
    encode, network, seen = load_encoder("small", small), load(small), crops(5)
    rows, weights = weighed(encode, seen)
    np.testing.assert_array_equal(rows, encode(seen))
    images = torch.from_numpy(np.stack([crop[..., ::-1].transpose(2, 0, 1) for crop in seen]).copy()) / 255
    with torch.inference_mode():
        inspected = network.inspect(images)
    np.testing.assert_allclose(weights, inspected.weights.numpy(), atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights >= 0).all() and np.ptp(weights[:, 0]) > 0.005
    assert [part.shape for part in weighed(encode, [])] == [(0, 8), (0, 2)]


def test_exports_tell_the_same_in_both_engines(small: Path, tmp_path: Path) -> None:
    done = export_onnx(small, tmp_path / "small.onnx")
    assert max(done.differences.values()) < 1e-4
    ours = load_encoder("small", small)
    plain = Preprocessing(64, 32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for theirs in (load_encoder("any", done.card), OpenVinoEncoder("any", done.path, plain)):
        for n in (1, 2, 32):
            for a, b in zip(weighed(theirs, crops(n)), weighed(ours, crops(n)), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-4)
        assert [part.shape for part in weighed(theirs, [])] == [(0, 8), (0, 2)]


@pytest.mark.parametrize("only", ["local", "global"])
def test_one_branch_alone_has_nothing_to_weigh(tmp_path: Path, only: str) -> None:
    save(DualBackboneNet(replace(SMALL, branches=only)), tmp_path / "one.safetensors")
    assert weighed(load_encoder("one", tmp_path / "one.safetensors"), crops(2))[1] is None


def test_encoders_without_branches_say_none(tmp_path: Path) -> None:
    """Also `pair`: its share is fixed and says nothing of a person."""
    stripes = load_encoder("stripes")
    onnx = load_encoder("net", write_channel_means(tmp_path / "net.onnx"))
    for encode in (stripes, onnx, PairEncoder(stripes, onnx)):
        rows, weights = weighed(encode, crops(2))
        assert weights is None
        np.testing.assert_array_equal(rows, encode(crops(2)))


def test_an_output_that_is_asked_for_by_name_stands_alone(tmp_path: Path) -> None:
    write_channel_means(tmp_path / "net.onnx", weights="even")
    asked = OnnxEncoder("net", tmp_path / "net.onnx", Preprocessing(), output="branch_weights")
    assert (asked.dim, asked.has_branches) == (2, False)
    encode = OnnxEncoder("net", tmp_path / "net.onnx", Preprocessing(), output="embedding")
    assert weighed(encode, crops(3))[1].tolist() == [[0.5, 0.5]] * 3


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("shape", r"net: output branch_weights must give two weights per crop, \(1, 2\), got \(1, 3\)"),
        ("nan", r"net: weights of the branches of crop 0 must be >= 0 and sum to 1, got \[nan, nan\]"),
        ("sum", "net: weights of the branches of crop 0 must be >= 0 and sum to 1"),
    ],
)
def test_weights_that_are_none_are_refused_when_an_export_is_loaded(tmp_path: Path, weights: str, says: str) -> None:
    path = write_channel_means(tmp_path / "net.onnx", weights=weights)
    for engine in (OnnxEncoder, OpenVinoEncoder):
        with pytest.raises(EncoderError, match=says):
            engine("net", path, Preprocessing())


def test_a_torch_network_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    network = DualBackboneNet(SMALL)
    torch.nn.init.constant_(network.attention[2].bias, float("nan"))
    save(network, tmp_path / "nan.safetensors")
    with pytest.raises(EncoderError, match="not finite"):
        load_encoder("nan", tmp_path / "nan.safetensors")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
@example([(0.75, 5e-324)])
def test_the_mean_of_weights_is_weights(seen: list[tuple[float, float]]) -> None:
    mean = mean_weights(np.stack([shares(local) for local, _ in seen]), np.array([quality for _, quality in seen]))
    assert sighting(mean).branch_weights is mean
    assert min(local for local, _ in seen) - 1e-6 <= mean[0] <= max(local for local, _ in seen) + 1e-6


# ------------------------------------------------------------------------------------------------ the seam


def test_a_sighting_carries_weights_or_none() -> None:
    assert sighting().branch_weights is None
    assert not sighting(shares(0.25)).branch_weights.flags.writeable
    for wrong in (shares(0.5) * 2, shares(0.5).astype(np.float64), shares(0.5)[None], np.ones(3, np.float32) / 3):
        with pytest.raises(ValueError, match="branch_weights must be"):
            sighting(wrong)
    for wrong in (shares(float("nan")), shares(1.5)):
        with pytest.raises(ValueError, match=r"branch_weights must be >= 0 and sum to 1"):
            sighting(wrong)


def test_weights_go_through_journal_message_and_file(tmp_path: Path) -> None:
    import jsonschema
    import pyarrow.parquet as pq

    rows = [sighting(shares(0.3), 1), sighting(None, 2), sighting(shares(0.9), 2)]
    for row in rows:
        back = sighting_from_json(json.loads(json_line(sighting_to_json(row))))
        np.testing.assert_array_equal(back.branch_weights, row.branch_weights)
    assert "branch_weights" not in sighting_to_json(rows[1])

    content = packed_said(WorkerSaid("w", "s", 1, "net", {}, rows))
    jsonschema.validate(json.loads(content), json.loads((ROOT / "schemas" / "said.json").read_text()))
    np.testing.assert_array_equal(unpacked_said(content).sightings[0].branch_weights, rows[0].branch_weights)

    path = tmp_path / "s.parquet"
    write_sightings(path, rows)
    for row, back in zip(rows, read_sightings(path), strict=True):
        np.testing.assert_array_equal(back.branch_weights, row.branch_weights)
    assert read_branch_weights(path) == {("a", 1): pytest.approx((0.3, 0.7)), ("a", 2): pytest.approx((0.9, 0.1))}
    pq.write_table(without_embeddings(pq.read_table(path)), path)
    assert len(read_branch_weights(path)) == 2  # two numbers describe nobody: they stay


def test_files_without_weights_are_as_they_were(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "s.parquet"
    write_sightings(path, [sighting()])
    assert "branch_weights" not in pq.read_schema(path).names
    assert read_sightings(path)[0].branch_weights is None
    assert read_branch_weights(path) == read_branch_weights(tmp_path / "absent.parquet") == {}


def test_a_damaged_column_is_said(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "s.parquet"
    write_sightings(path, [sighting(shares(0.5))])
    table = pq.read_table(path)
    at = table.column_names.index("branch_weights")
    bad_columns = ([[0.5, 0.5, 0.0]], [[float("nan"), 0.5]], [[0.5, 0.9]], ["half"])
    for column in bad_columns:
        pq.write_table(table.set_column(at, "branch_weights", pa.array(column)), path)
        with pytest.raises(SightingsFileError, match="branch_weights"):
            read_sightings(path)
    for column in (bad_columns[0], bad_columns[1], bad_columns[3]):
        pq.write_table(table.set_column(at, "branch_weights", pa.array(column)), path)
        with pytest.raises(SightingsFileError, match="branch_weights"):
            read_branch_weights(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(SightingsFileError, match="not a readable Parquet file"):
        read_branch_weights(path)


# ------------------------------------------------------------------------------------------------ through a run


def test_a_stay_says_the_mean_over_its_crops() -> None:
    from pipeline.stays import Due, Stay, sightings
    from reid.crops import KeyCrops

    asked: list[int] = []

    class Encoder:
        has_branches = True

        def weighed(self, seen):
            asked.append(len(seen))
            local = np.array([int(c[0, 0, 0]) / 255 for c in seen], np.float32)
            return np.array([unit(np.array([1.0, 0.1])) for _ in seen]), np.stack([local, 1 - local], axis=1)

    box = np.array([10, 10, 60, 130], np.float32)
    keeper = KeyCrops(cell_s=1.0)
    for n in range(3):
        keeper.offer(np.full((200, 100, 3), 60 * n + 20, np.uint8), box, float(n))
    stay, encode = Stay("a", 1, 0.0, box, keeper, 3.0, box), Encoder()
    (said,) = sightings([Due(stay, False, 3.0)], encode)
    qualities = np.array([crop.quality for crop in keeper.best()])
    expected = qualities @ [crop.image[0, 0, 0] / 255 for crop in keeper.best()] / qualities.sum()
    np.testing.assert_allclose(said.branch_weights, [expected, 1 - expected], atol=1e-6)
    (again,) = sightings([Due(stay, True, 4.0)], encode)
    np.testing.assert_array_equal(again.branch_weights, said.branch_weights)
    assert asked == [3]  # each crop once


def test_explain_says_which_branch_spoke(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq
    from walkers import ENTERS_A_S, film

    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    walk = film(tmp_path / "a.mp4", ENTERS_A_S[:1], duration_s=8.0)
    run = tmp_path / "run"
    done = identrix("run", "--source", f"a={walk}", "--out", run, *QUICK, "--set", f"reid.encoder={small}")
    assert (done.exit_code, done.stderr) == (0, "")
    (last,) = (row for row in pq.read_table(run / "sightings.parquet").to_pylist() if row["closed"])
    local, whole = last["branch_weights"]
    assert local + whole == pytest.approx(1, abs=1e-6)
    stay = f"a:{last['track_id']}"
    words = identrix("explain", run, stay).stdout
    said = f"its look: {100 * local:.0f} % local branch (detail), {100 * whole:.0f} % global branch (the whole)"
    assert said in words.splitlines()[1]
    answer = json.loads(identrix("explain", run, stay, "--json").stdout)
    assert answer["stays"][0]["branch_weights"] == pytest.approx([local, whole])

    # While it goes there is a journal only.
    journal = tmp_path / "going" / "journal"
    journal.mkdir(parents=True)
    (journal / "decisions.jsonl").write_bytes((run / "decisions.jsonl").read_bytes())
    rows = read_sightings(run / "sightings.parquet")
    (journal / "sightings.jsonl").write_bytes(b"".join(json_line(sighting_to_json(row)) for row in rows))
    assert said in identrix("explain", tmp_path / "going", stay).stdout

    replayed = identrix("replay", run, "--out", tmp_path / "again")
    assert replayed.exit_code == 0
    assert "branch" not in identrix("explain", tmp_path / "again", stay).stdout  # a replay holds no sightings


def test_a_run_of_an_encoder_without_branches_says_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq
    from walkers import ENTERS_A_S, film

    monkeypatch.setenv("IDENTRIX_STATE", str(tmp_path / "state"))
    walk = film(tmp_path / "a.mp4", ENTERS_A_S[:1], duration_s=8.0)
    assert identrix("run", "--source", f"a={walk}", "--out", tmp_path / "run", *QUICK).exit_code == 0
    assert "branch_weights" not in pq.read_schema(tmp_path / "run" / "sightings.parquet").names
    done = identrix("explain", tmp_path / "run", "P1", "--json")
    assert [stay["branch_weights"] for stay in json.loads(done.stdout)["stays"]] == [None]
