"""One person's way as a video: the right moments, the person in the light, and what happens when sources are gone."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from door import identrix

from pipeline.annotate import person_colour
from pipeline.atomic import write_json_atomic
from pipeline.clip import BAR_PX, CARD_S, DIM, ClipError, make_clip
from pipeline.journal import json_line
from pipeline.journal_writer import RunJournal
from pipeline.render import render_videos
from pipeline.seeking import read_between
from pipeline.sources import Source, SourceError, read_frames
from pipeline.tracklog import finish_run
from pipeline.video import VideoWriter

HZ, WIDTH, HEIGHT = 10.0, 320, 180
BOX = (150, 40, 190, 140)


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]


def grey_at(index: int) -> int:
    return 60 + index % 150


def film(path: Path, frames: int) -> str:
    """A film whose frame n is all grey_at(n)."""
    with VideoWriter(path) as writer:
        for index in range(frames):
            writer.write(np.full((HEIGHT, WIDTH, 3), grey_at(index), np.uint8), index / HZ)
    return str(path)


@pytest.fixture
def site(tmp_path: Path) -> tuple[Path, list[Source]]:
    """P2 is in `a` from 4 to 7.9 s, then in `b`, whose film starts at 2 s, from 12 to 13.9 s; P3 in `a`."""
    sources = [Source("a", film(tmp_path / "a.mp4", 150)), Source("b", film(tmp_path / "b.mp4", 150), start_s=2.0)]
    run_dir = tmp_path / "run"
    one, score = np.array([BOX], np.float32), np.ones(1, np.float32)
    with RunJournal(run_dir) as journal:
        for index in range(150):
            other = np.array([[20, 40, 60, 140]], np.float32)
            here = 40 <= index < 80
            boxes = np.concatenate([one, other]) if here else other
            journal.boxes("a", index, index / HZ, np.array([11, 13] if here else [13]), boxes, np.ones(len(boxes)))
            if 100 <= index < 120:
                journal.boxes("b", index, index / HZ + 2.0, np.array([12]), one, score)
    finish_run(run_dir, {("a", 11): (2, 0.9), ("b", 12): (2, 0.8), ("a", 13): (3, 1.0)})
    merge = {"kind": "merge", "time_s": 13.0, "global_id": 5, "into_id": 2, "stays": [["b", 12]], "probability": 0.97}
    (run_dir / "corrections.jsonl").write_bytes(json_line(merge | {"reason": "alike"}))
    cameras = [{"name": s.camera, "source": s.uri, "start": s.start_s} for s in sources]
    health = {s.camera: {"size": [WIDTH, HEIGHT], "first_s": s.start_s} for s in sources}
    write_json_atomic(run_dir / "run.json", {"config": {"cameras": cameras}, "cameras": health})
    return run_dir, sources


@pytest.mark.parametrize(("begin_s", "end_s"), [(0.0, 0.5), (7.33, 9.0), (12.0, 99.0), (40.0, 50.0)])
def test_a_part_is_what_reading_all_of_it_would_give(tmp_path, begin_s, end_s):
    source = Source("a", film(tmp_path / "a.mp4", 150), start_s=1.5, offset_s=-0.2)
    whole = [frame for frame in read_frames(source) if begin_s <= frame.time_s <= end_s]
    part = list(read_between(source, begin_s, end_s))
    assert [frame.time_s for frame in part] == pytest.approx([frame.time_s for frame in whole])
    assert all((a.image == b.image).all() for a, b in zip(part, whole, strict=True))


def test_a_file_that_cannot_be_sought_in_is_read_from_its_beginning(tmp_path):
    with av.open(film(tmp_path / "a.mp4", 60)) as old, av.open(str(tmp_path / "a.h264"), "w") as bare:
        stream = bare.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                bare.mux(packet)
    source = Source("a", str(tmp_path / "a.h264"))
    whole = [frame for frame in read_frames(source) if 1.0 <= frame.time_s <= 2.0]
    part = list(read_between(source, 1.0, 2.0))
    assert len(part) == len(whole) > 5
    with pytest.raises(SourceError):
        list(read_between(Source("a", str(tmp_path / "none.mp4")), 0.0, 1.0))


def test_the_way_of_a_person(site, tmp_path):
    run_dir, _ = site
    done = make_clip(run_dir, "P2", tmp_path / "out" / "p2.mp4")
    assert [(s.camera, s.came) for s in done.scenes] == [("a", ""), ("b", "from a, 4 s, 80%")]
    assert done.from_videos == ()
    pictures = decoded(done.path)
    assert pictures[0][1].shape == (HEIGHT + 2 * BAR_PX, WIDTH, 3)
    assert pictures[-1][0] == pytest.approx(3.9 + 1.2 + 0.1 + CARD_S + 1.9 + 1.2, abs=0.25)  # scenes with air, a card
    times = [time_s for time_s, _ in pictures]
    assert times == sorted(set(times)) and max(np.diff(times)) <= 0.41
    # The first second shows frames 34 to 43 of `a`, dimmed; the person's box is lit and framed.
    at_1s = next(image for time_s, image in pictures if time_s >= 1.0)
    around, inside = at_1s[BAR_PX + 20, 300].mean(), at_1s[BAR_PX + 90, 170].mean()
    assert inside == pytest.approx(grey_at(44), abs=8) and around == pytest.approx(DIM * grey_at(44), abs=8)
    assert np.abs(at_1s[BAR_PX + 90, BOX[0]].astype(int) - person_colour(2)).max() < 60
    other = at_1s[BAR_PX + 90, 20:60].astype(int)
    assert np.abs(other - other.mean()).max() < 12  # nobody else is marked
    last = pictures[-1][1][BAR_PX + 20, 300].mean()
    assert last == pytest.approx(DIM * grey_at(125), abs=8)  # 0.6 s after the stay's last frame, 119


def test_an_id_that_was_merged_is_found_by_its_old_name(site, tmp_path):
    run_dir, _ = site
    assert make_clip(run_dir, "5", tmp_path / "old.mp4").global_id == 2


def test_without_the_sources_the_videos_of_the_run_are_cut(site, tmp_path):
    run_dir, sources = site
    starts_s = render_videos(run_dir, sources).starts_s
    write_json_atomic(
        run_dir / "run.json", json.loads((run_dir / "run.json").read_text()) | {"video_start_s": starts_s}
    )
    Path(sources[1].uri).unlink()
    done = identrix("clip", run_dir, "p2", "--out", tmp_path / "p2.mp4")
    assert done.exit_code == 0 and done.stdout.startswith("2 scenes, ")
    assert done.stderr.startswith("b: the source is gone") and len(done.stderr.splitlines()) == 1
    last = decoded(tmp_path / "p2.mp4")[-1][1][BAR_PX + 20, 300].mean()
    assert last == pytest.approx(grey_at(125), abs=8)  # the right moment, undimmed

    (run_dir / "video" / "b.mp4").unlink()
    failed = identrix("clip", run_dir, "P2", "--out", tmp_path / "q.mp4")
    assert failed.exit_code == 2 and len(failed.stderr.splitlines()) == 1 and "camera b: neither" in failed.stderr
    assert not (tmp_path / "q.mp4").exists()


def test_a_live_camera_is_cut_from_its_segments(site, tmp_path):
    run_dir, sources = site
    Path(sources[1].uri).unlink()
    for begin_s in (10, 13):  # the stay in `b` goes from 12 to 13.9 s
        path = run_dir / "video" / "b" / f"1970-01-01T00-00-{begin_s}Z.mp4"
        with VideoWriter(path) as writer:
            for n in range(30):
                writer.write(np.full((HEIGHT, WIDTH, 3), grey_at(10 * (begin_s - 2) + n), np.uint8), n / HZ)
    done = make_clip(run_dir, "P2", tmp_path / "p2.mp4")
    assert done.from_videos == ("b",)
    greys = [round(image[BAR_PX + 20, 300].mean()) for _, image in decoded(done.path)]
    scene = greys[-31:]  # from 11.4 to 14.5 s, over the border of two segments
    assert scene == pytest.approx([grey_at(n) for n in range(125 - 30, 126)], abs=4)


def test_crops_are_kept_only_when_asked_and_shown_in_the_report(site):
    run_dir, sources = site
    assert identrix("report", run_dir).exit_code == 0 and not (run_dir / "crops").exists()
    assert "data:image/jpeg" not in (run_dir / "report.html").read_text()
    Path(sources[1].uri).unlink()
    done = identrix("report", run_dir, "--crops")
    assert done.exit_code == 0 and done.stderr.startswith("no pictures: camera b:")
    kept = sorted(path.relative_to(run_dir).as_posix() for path in (run_dir / "crops").rglob("*.jpg"))
    assert kept == ["crops/a/11.jpg", "crops/a/13.jpg"]
    with av.open(str(run_dir / "crops" / "a" / "11.jpg")) as picture:
        shown = next(picture.decode(video=0)).to_ndarray(format="gray")
    # Of one of the middle frames of the stay, 48 to 71, and as high as the box.
    assert shown.shape[0] == BOX[3] - BOX[1] and grey_at(47) <= shown.mean() <= grey_at(72)
    assert (run_dir / "report.html").read_text().count("data:image/jpeg") == 2


def test_nobody_of_that_name(site, tmp_path):
    run_dir, _ = site
    with pytest.raises(ClipError, match="there is no person P7; the nearest are P2, P3"):
        make_clip(run_dir, "P7", tmp_path / "a.mp4")
    with pytest.raises(ClipError, match="expected a person such as P12"):
        make_clip(run_dir, "lobby", tmp_path / "a.mp4")
    with pytest.raises(ClipError, match="MP4"):
        make_clip(run_dir, "P2", tmp_path / "a.gif")


def test_what_is_told_as_json(site, tmp_path):
    run_dir, _ = site
    told = json.loads(identrix("clip", run_dir, "P3", "--out", tmp_path / "p3.mp4", "--json").stdout)
    assert told["person"] == 3 and [scene["camera"] for scene in told["scenes"]] == ["a"]
