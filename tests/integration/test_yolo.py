"""YOLO through Ultralytics: on real weights where there are some, on untrained ones otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.yolo import DetectorError, YoloDetector

INT8 = "yolo11n_int8_openvino_model"


@pytest.fixture(scope="module")
def detector(models_dir: Path) -> YoloDetector:
    folder = models_dir / INT8
    if not folder.is_dir():
        pytest.skip(f"{INT8} is not in $IDENTRIX_MODELS")
    return YoloDetector(folder, device="cpu", conf=0.25)


@pytest.fixture(scope="module")
def street(data_dir: Path) -> NDArray[np.uint8]:
    """First frame of a street with people, (576, 768, 3) BGR."""
    import av

    path = data_dir / "pets2009" / "vtest.avi"
    if not path.exists():
        pytest.skip("pets2009/vtest.avi is not in $IDENTRIX_DATA")
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="bgr24")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest YOLO11 with random layers, as the .pt that Ultralytics writes."""
    from detectors.quiet_ultralytics import house_rules

    house_rules()
    from ultralytics import YOLO

    path = tmp_path_factory.mktemp("pt") / "untrained.pt"
    model = YOLO("yolo11n.yaml")
    model.model.names = {number: f"thing {number}" for number in range(80)} | {0: "person"}
    model.save(str(path))
    return path


def iou(a: NDArray[np.float32], b: NDArray[np.float64]) -> float:
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = max(width, 0) * max(height, 0)
    return float(inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter))


def test_finds_the_people_of_a_real_street(detector: YoloDetector, street: NDArray[np.uint8], data_dir: Path) -> None:
    truth = np.loadtxt(data_dir / "pets2009" / "gt_frames_1_400.txt", delimiter=",", usecols=range(6))
    truth = truth[truth[:, 0] == 1, 2:]
    people = np.c_[truth[:, :2], truth[:, :2] + truth[:, 2:]]
    (found,) = detector(["street"], [0], [street])
    assert all(any(iou(box, person) >= 0.5 for box in found.boxes) for person in people)
    assert (found.scores >= 0.25).all()


def test_an_image_is_judged_alone_whatever_else_is_in_the_batch(
    detector: YoloDetector, street: NDArray[np.uint8]
) -> None:
    images = [street, street[:, :300], street[:, 470:], np.zeros((100, 80, 3), np.uint8), street]
    together = detector(list("abcde"), [0] * 5, images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector(["x"], [0], [image])
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)
        height, width = image.shape[:2]
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
    assert len(together[3]) == 0
    assert detector([], [], []) == []


def test_a_fixed_batch_is_kept(detector: YoloDetector) -> None:
    assert detector.batch_size == 1


def test_a_batch_too_large_for_the_gpu_is_halved(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    detector = YoloDetector(untrained, device="cpu", imgsz=64)
    assert detector.batch_size is None
    sizes = []
    whole = detector._predictor

    def small_gpu(images: list[NDArray[np.uint8]]) -> list[object]:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return list(whole(images))

    monkeypatch.setattr(detector, "_predictor", small_gpu)
    images = [np.full((64, 64, 3), level, np.uint8) for level in range(7)]
    assert len(detector(["x"] * 7, [0] * 7, images)) == 7
    assert sizes == [7, 4, 2, 2, 3, 2, 1]
    assert detector.batch_size == 2


def test_one_image_too_large_for_the_gpu_is_an_error(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    detector = YoloDetector(untrained, device="cpu", imgsz=64)

    def no_memory(images: list[NDArray[np.uint8]]) -> list[object]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector, "_predictor", no_memory)
    with pytest.raises(DetectorError, match="memory"):
        detector(["x"], [0], [np.zeros((64, 64, 3), np.uint8)])


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"no YOLO weights at .*nothing.pt"):
        YoloDetector(tmp_path / "nothing.pt")


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_truncated_weights(untrained: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(untrained.read_bytes()[:5000])
    with pytest.raises(DetectorError, match=r"cannot load .*cut.* as a YOLO detector: .") as caught:
        YoloDetector(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_truncated_openvino_folder(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / INT8
    shutil.copytree(models_dir / INT8, folder)
    weights = folder / "yolo11n.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DetectorError, match="cannot load"):
        YoloDetector(folder, device="cpu")


def test_a_model_that_knows_no_persons(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / INT8
    shutil.copytree(models_dir / INT8, folder)
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("0: person", "0: parrot"))
    with pytest.raises(DetectorError, match=r"no class 'person' \(it knows parrot, bicycle, car"):
        YoloDetector(folder, device="cpu")


def test_a_model_for_another_task(tmp_path: Path) -> None:
    from ultralytics import YOLO

    path = tmp_path / "pose.pt"
    YOLO("yolo11n-pose.yaml").save(str(path))
    with pytest.raises(DetectorError, match="task 'pose'; a detection model is needed"):
        YoloDetector(path, device="cpu")


def test_weights_of_another_kind_of_model(models_dir: Path) -> None:
    path = models_dir / "osnet_x0_25_msmt17.onnx"
    if not path.exists():
        pytest.skip("osnet_x0_25_msmt17.onnx is not in $IDENTRIX_MODELS")
    with pytest.raises(DetectorError, match=r"osnet_x0_25_msmt17\.onnx"):
        YoloDetector(path, device="cpu")


class Burglar:
    """Pickled code that leaves a trace when it is run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.trace,)


def test_code_in_a_pt_file_is_not_run(tmp_path: Path) -> None:
    import torch

    path, trace = tmp_path / "burglar.pt", tmp_path / "was_here"
    torch.save({"model": Burglar(trace)}, path)
    with pytest.raises(DetectorError, match="cannot load"):
        YoloDetector(path, device="cpu")
    assert not trace.exists()


def test_ultralytics_keeps_quiet(untrained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    detector = YoloDetector(untrained, device="cpu", imgsz=64)
    detector(["x"], [0], [np.zeros((64, 64, 3), np.uint8)])
    assert capfd.readouterr() == ("", "")
