"""How many of the true heads `privacy.blur=heads` covers, on footage with true boxes.

    python -m tests.benchmarks.bench_blur [--json OUT] [--detector yolo11n]

TUD-Campus and the two cameras of vcam_dev in `$IDENTRIX_DATA`, one run each with the detector named. A true head is the
point a fourteenth below the top of a true box, in its middle; it is covered when it lies in what is hidden there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.blur import head_of
from pipeline.config import load_config
from pipeline.hidden_boxes import CameraBoxes, read_hidden_boxes
from pipeline.runner import run
from pipeline.sources import Source, read_frames

CLIPS = {
    "tud_campus": ("tud_campus/TUD-Campus.mp4", "tud_campus/gt.txt"),
    "vcam_dev a": ("vcam_dev/videos/a.mp4", "vcam_dev/gt/a.txt"),
    "vcam_dev b": ("vcam_dev/videos/b.mp4", "vcam_dev/gt/b.txt"),
}


def covered(video: Path, truth: Path, detector: str, work: Path) -> dict[str, int]:
    """Heads in a clip, and how many of them are hidden."""
    settings = [f"detector.model={detector}", "reid.encoder=stripes", "output.video=false", "output.plots=false"]
    config = load_config(
        sources=[f"clip={video}"], overrides=[*settings, "privacy.blur=heads", f"redis.state_dir={work / 'state'}"]
    )
    run(config, work / "run")
    boxes, true = CameraBoxes(read_hidden_boxes(work / "run")["clip"]), np.loadtxt(truth, delimiter=",")
    heads = hidden = 0
    for frame in read_frames(Source("clip", str(video))):
        regions = [head_of(box) for _, box in boxes.at(frame.time_s)]
        high, wide = frame.image.shape[:2]
        for left, top, width, height in true[true[:, 0] == frame.index + 1, 2:6]:
            x, y = left + width / 2, top + height / 14
            if 0 <= x < wide and 0 <= y < high:
                heads += 1
                hidden += any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in regions)
    return {"heads": heads, "hidden": hidden}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--detector", default="yolo11n")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"detector": arguments.detector, "python": platform.python_version(), "clips": {}}
    data = Path(os.environ.get("IDENTRIX_DATA", ""))
    if not (data / "tud_campus").is_dir():
        print("nothing to measure on: IDENTRIX_DATA names no folder with the footage")
        CLIPS.clear()
    for name, (video, truth) in CLIPS.items():
        with tempfile.TemporaryDirectory() as work:
            found = covered(data / video, data / truth, arguments.detector, Path(work))
        result["clips"][name] = found
        print(f"{name:<12} {found['hidden']} of {found['heads']} heads hidden ({found['hidden'] / found['heads']:.2%})")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
