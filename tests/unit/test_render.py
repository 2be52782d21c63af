"""The second pass: final ids in every camera's video and in the mosaic."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.annotate import person_colour
from pipeline.atomic import OutputError
from pipeline.journal_writer import RunJournal
from pipeline.mosaic import FOOTER_PX, STRIP_PX
from pipeline.render import render_videos
from pipeline.sources import Source
from pipeline.tracklog import finish_run
from pipeline.video import VideoWriter

HZ = 10.0
WIDTH, HEIGHT = 128, 96
BOX = (50, 30, 80, 90)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def clip(path: Path, frames: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    with VideoWriter(path) as writer:
        for index in range(frames):
            writer.write(np.full((size[1], size[0], 3), 100, np.uint8), index / HZ)
    return str(path)


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether an encoded pixel shows this colour: H.264 halves the resolution of colour, so hues are only near."""
    return bool(np.abs(pixel.astype(int) - colour).max() < 60)


@pytest.fixture
def site(tmp_path):
    """Person 2 is in `a` from 0 to 1.9 s (track 11), then in `b` from 3 to 4.9 s (track 12); `a` ends at 2 s."""
    sources = [
        Source("a", clip(tmp_path / "a.mp4", 20)),
        Source("b", clip(tmp_path / "b.mp4", 50)),
    ]
    run_dir = tmp_path / "run"
    box, score = np.array([BOX], np.float32), np.ones(1, np.float32)
    none = np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    with RunJournal(run_dir) as journal:
        for index in range(20):
            journal.boxes("a", index, index / HZ, np.array([11]), box, score)
        for index in range(50):
            journal.boxes("b", index, index / HZ, *((np.array([12]), box, score) if index >= 30 else none))
    finish_run(run_dir, {("a", 11): (2, 0.9), ("b", 12): (2, 0.8)})
    return run_dir, sources


def test_every_camera_and_the_mosaic_are_written(site):
    run_dir, sources = site
    seen: list[int] = []
    done = render_videos(run_dir, sources, on_progress=seen.append)
    assert (done.frames, done.errors) == (70, {})
    assert seen[-1] == 70 and seen == sorted(seen)
    assert [path.name for path in done.paths] == ["a.mp4", "b.mp4", "mosaic.mp4"]
    assert len(decoded(run_dir / "video" / "a.mp4")) == 20
    assert len(decoded(run_dir / "video" / "b.mp4")) == 50
    mosaic = decoded(run_dir / "video" / "mosaic.mp4")
    assert len(mosaic) == 50
    assert mosaic[0].shape == (HEIGHT + FOOTER_PX, 2 * WIDTH + STRIP_PX, 3)


def test_the_final_id_is_drawn_from_the_first_frame_in_one_colour_everywhere(site):
    run_dir, sources = site
    render_videos(run_dir, sources)
    colour, (x1, y1, _, y2) = person_colour(2), BOX
    edge = (y1 + y2) // 2, x1
    first_a = decoded(run_dir / "video" / "a.mp4")[0]
    b = decoded(run_dir / "video" / "b.mp4")
    assert near(first_a[edge], colour)
    assert not near(b[29][edge], colour)
    assert near(b[30][edge], colour)
    mosaic = decoded(run_dir / "video" / "mosaic.mp4")
    assert near(mosaic[0][edge], colour)
    assert near(mosaic[40][edge[0], edge[1] + WIDTH], colour)


def test_a_hand_over_is_written_below_and_an_ended_camera_is_dimmed(site):
    run_dir, sources = site
    render_videos(run_dir, sources)
    mosaic = decoded(run_dir / "video" / "mosaic.mp4")
    strips = [frame[-FOOTER_PX + 6 : -6, 4:40].reshape(-1, 3).astype(int) for frame in mosaic]
    coloured = [bool((np.abs(strip - person_colour(2)).max(1) < 60).mean() > 0.3) for strip in strips]
    assert coloured == [False] * 30 + [True] * 20
    assert mosaic[20][80, 20].mean() == pytest.approx(100, abs=8)  # just ended: still bright
    assert mosaic[-1][80, 20].mean() == pytest.approx(40, abs=8)
    assert mosaic[-1][80, WIDTH + 20].mean() == pytest.approx(100, abs=8)


def test_somebody_who_comes_from_another_camera_lights_up_and_fades(site):
    run_dir, sources = site
    render_videos(run_dir, sources)
    b, (x1, y1, x2, y2) = decoded(run_dir / "video" / "b.mp4"), BOX
    inside = [np.abs(frame[y1 + 15 : y2 - 15, x1 + 8 : x2 - 8].mean((0, 1)) - 100).max() for frame in b]
    assert max(inside[:30]) < 8  # nobody is there yet
    assert inside[30] > inside[35] + 8 > inside[41] + 16  # glows when they come, less after half a second
    assert max(inside[43:]) < 8  # over after 1.2 s
    a = decoded(run_dir / "video" / "a.mp4")[0][y1 + 15 : y2 - 15, x1 + 8 : x2 - 8].mean((0, 1))
    assert np.abs(a - 100).max() < 8  # a first camera is no hand-over


def test_the_strip_lists_who_is_on_site(site):
    run_dir, sources = site
    render_videos(run_dir, sources)
    strips = [frame[:-FOOTER_PX, 2 * WIDTH :] for frame in decoded(run_dir / "video" / "mosaic.mp4")]
    chip = [bool((np.abs(s[30:50, 8:30].astype(int) - person_colour(2)).max(2) < 60).mean() > 0.3) for s in strips]
    assert all(chip)  # in view, between the cameras, in view again
    in_view, between = strips[10][32:46, 50:90].max(), strips[25][32:46, 50:90]
    assert in_view > 150 and np.median(between) > 40  # dimmed: on a lighter ground


def test_a_stopped_run_is_drawn_as_far_as_it_got(site):
    run_dir, sources = site
    assert render_videos(run_dir, sources, until_s=1.05).frames == 22
    assert len(decoded(run_dir / "video" / "a.mp4")) == len(decoded(run_dir / "video" / "mosaic.mp4")) == 11


def test_an_interrupted_rendering_leaves_playable_videos(site):
    run_dir, sources = site

    def interrupt(frames: int) -> None:
        if frames >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_videos(run_dir, sources, on_progress=interrupt)
    assert [len(decoded(run_dir / "video" / f"{name}.mp4")) for name in "ab"] == [15, 15]
    assert len(decoded(run_dir / "video" / "mosaic.mp4")) >= 13  # a picture is written when the next one comes


def test_cameras_of_other_rates_and_sizes_share_the_clock(tmp_path):
    sources = [
        Source("wide", clip(tmp_path / "wide.mp4", 30, (160, 64))),
        Source("slow", clip(tmp_path / "slow.mp4", 30, (48, 64)), stride=5, start_s=1.0),
    ]
    with RunJournal(tmp_path / "run"):
        pass
    finish_run(tmp_path / "run", {})
    done = render_videos(tmp_path / "run", sources)
    assert done.frames == 36
    with av.open(str(tmp_path / "run" / "video" / "mosaic.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[-1] == pytest.approx(3.5, abs=0.11)  # the slow camera's last picture, at 1 + 25 / 10 s
    assert len(times) <= 36


def test_a_source_that_is_gone_is_reported_and_the_others_are_written(site):
    run_dir, sources = site
    Path(sources[0].uri).unlink()
    done = render_videos(run_dir, sources)
    assert list(done.errors) == ["a"]
    assert [path.name for path in done.paths] == ["b.mp4", "mosaic.mp4"]
    assert len(decoded(run_dir / "video" / "b.mp4")) == 50


def test_live_sources_cannot_be_read_again(site):
    run_dir, sources = site
    done = render_videos(run_dir, [sources[0], Source("b", "rtsp://localhost:1/none")])
    assert [path.name for path in done.paths] == ["a.mp4", "mosaic.mp4"]
    assert render_videos(run_dir, [Source("b", "0")]).paths == ()


def test_a_video_that_cannot_be_written_ends_the_rendering(site):
    run_dir, sources = site
    (run_dir / "video" / "b.mp4").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*b\.mp4"):
        render_videos(run_dir, sources)


def test_a_run_without_tracks_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="finished run"):
        render_videos(tmp_path, [])
