"""Exports for annotation tools: CVAT XML for video 1.1 and COCO with track ids."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_lines
from pipeline.exports import CameraFacts

if TYPE_CHECKING:
    import pyarrow as pa

LABEL = "person"


def write_cvat(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """<camera>.xml each, "CVAT for video 1.1": one track per person with the global id as attribute, a key frame per
    box; where a person is gone, a box marked as outside ends the interpolation. Frames count from 0.

    Source: docs.cvat.ai, "XML annotation format", version 1.1.
    """
    import pyarrow.compute as pc

    paths = []
    for camera in cameras:
        mine = tracks.filter(pc.equal(tracks["camera"], camera.name))
        paths.append(folder / f"{camera.name}.xml")
        write_lines(paths[-1], [_cvat(mine, camera)])
    return paths


def _cvat(tracks: pa.Table, camera: CameraFacts) -> bytes:
    frames, ids = tracks["frame"].to_numpy() - 1, tracks["global_id"].to_numpy()
    corners = np.stack([tracks[name].to_numpy().astype(np.float64) for name in ("x1", "y1", "x2", "y2")], axis=1)
    size = max(camera.frames, int(frames.max(initial=-1)) + 1)
    step = usual_step(frames)
    root = ET.Element("annotations")
    _leaf(root, "version", "1.1")
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    facts = {"name": camera.name, "size": size, "mode": "interpolation", "overlap": 0}
    for name, value in (facts | {"start_frame": 0, "stop_frame": max(size - 1, 0), "frame_filter": ""}).items():
        _leaf(task, name, value)
    label = ET.SubElement(ET.SubElement(task, "labels"), "label")
    _leaf(label, "name", LABEL)
    attribute = ET.SubElement(ET.SubElement(label, "attributes"), "attribute")
    kind = {"name": "global_id", "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
    for name, value in kind.items():
        _leaf(attribute, name, value)
    if camera.width and camera.height:
        original = ET.SubElement(task, "original_size")
        _leaf(original, "width", camera.width)
        _leaf(original, "height", camera.height)
    order = np.lexsort((frames, ids))
    frames, ids, corners = frames[order], ids[order], corners[order]
    for number, person in enumerate(np.unique(ids).tolist()):
        low, high = np.searchsorted(ids, [person, person + 1])
        track = ET.SubElement(root, "track", {"id": str(number), "label": LABEL, "source": "auto"})
        for frame, outside, box in with_ends(frames[low:high], corners[low:high], step, size):
            edges = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{edge:.2f}" for edge in box), strict=True))
            place = {"frame": str(frame), "keyframe": "1", "outside": str(int(outside)), "occluded": "0"}
            shape = ET.SubElement(track, "box", {**place, **edges, "z_order": "0"})
            _leaf(shape, "attribute", person).set("name", "global_id")
    whole: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"


def _leaf(parent: ET.Element, name: str, value: object) -> ET.Element:
    element = ET.SubElement(parent, name)
    element.text = str(value)
    return element


def usual_step(frames: NDArray[np.int64]) -> int:
    """How many source frames lie between two that were looked at: the median over all frames with somebody in.

    >>> usual_step(np.array([0, 0, 5, 10, 15, 90])), usual_step(np.array([7]))
    (5, 1)
    """
    steps = np.diff(np.unique(frames))
    return max(int(np.median(steps)), 1) if len(steps) else 1


def with_ends(
    frames: NDArray[np.int64], boxes: NDArray[np.float64], step: int, size: int
) -> Iterator[tuple[int, bool, NDArray[np.float64]]]:
    """(frame, outside, box) of one person: every box, and after the last one before a hole its copy, marked outside, so
    that nothing is interpolated over the hole. No end is written beyond the last frame of the film.

    >>> box = np.zeros((3, 4))
    >>> [(f, out) for f, out, _ in with_ends(np.array([0, 1, 5]), box, step=1, size=9)]
    [(0, False), (1, False), (2, True), (5, False), (6, True)]
    """
    for n, (frame, box) in enumerate(zip(frames.tolist(), boxes, strict=True)):
        yield frame, False, box
        after = frames[n + 1] if n + 1 < len(frames) else size
        if after - frame > step and frame + step < size:
            yield frame + step, True, box


def write_coco(folder: Path, tracks: pa.Table, cameras: Sequence[CameraFacts], first_frame: int) -> list[Path]:
    """annotations.json: COCO detection with `videos` (one per camera), `images` (every frame with somebody in it:
    video_id, frame_id, file_name <camera>/<frame>.jpg) and `annotations` with `track_id`, the global id, and `score`.
    """
    videos = [{"id": n, "name": c.name, "width": c.width, "height": c.height} for n, c in enumerate(cameras, start=1)]
    video_of = {camera.name: n for n, camera in enumerate(cameras, start=1)}
    size_of = {camera.name: {"width": camera.width, "height": camera.height} for camera in cameras}
    images: dict[tuple[str, int], dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    names = ("camera", "frame", "track_id", "global_id", "x1", "y1", "x2", "y2", "score")
    for camera, frame, stay, person, x1, y1, x2, y2, score in zip(
        *(tracks[name].to_pylist() for name in names), strict=True
    ):
        number = frame - 1 + first_frame
        key = camera, number
        if key not in images:
            place = {"id": len(images) + 1, "video_id": video_of[camera], "frame_id": number}
            images[key] = {**place, "file_name": f"{camera}/{number:06d}.jpg", **size_of[camera]}
        width, height = x2 - x1, y2 - y1
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": images[key]["id"],
                "category_id": 1,
                "bbox": [round(x1, 2), round(y1, 2), round(width, 2), round(height, 2)],
                "area": round(width * height, 2),
                "iscrowd": 0,
                "score": round(score, 4),
                "track_id": person,
                "stay_id": stay,
            }
        )
    whole = {
        "info": {"description": "Identrix: persons with one track_id across all cameras"},
        "licenses": [],
        "categories": [{"id": 1, "name": LABEL, "supercategory": LABEL}],
        "videos": videos,
        "images": list(images.values()),
        "annotations": annotations,
    }
    path = folder / "annotations.json"
    write_lines(path, [json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"])
    return [path]
