"""Bad input, bad weights, bad servers, full disks and kills: one clear line, the right exit code, nothing lost."""

from __future__ import annotations

import ast
import http.server
import json
import os
import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
import walkers
from clips import write_sound
from door import PLAIN, QUICK, ROOT, acting_at, films, identrix, own_process
from redis_servers import free_port, kill_server, running

import run_pipeline
from pipeline import journal_writer
from pipeline.errors import code_of
from pipeline.journal import read_boxes, read_journal_sightings
from pipeline.tracklog import read_decisions, read_tracks
from st_model.embedded import EmbeddedServer
from st_model.writer import TableWriter

DONE, CAMERA_FAILED, BAD_INPUT, STORAGE, INTERRUPTED = 0, 1, 2, 3, 130


def line_of(result: object, exit_code: int) -> str:
    """The one line an unsuccessful command says."""
    assert result.exit_code == exit_code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def learnt_before(run: Path) -> list[list[object]]:
    return json.loads((run / "tables_start.json").read_text())["counts"]


# ----------------------------------------------------------------------------------------------------------- cameras


def absent(folder: Path) -> Path:
    return folder / "absent.mp4"


def a_folder(folder: Path) -> Path:
    return folder


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no film\n" * 50)
    return folder / "text.mp4"


def sound_only(folder: Path) -> Path:
    return write_sound(folder / "sound.mp4")


def no_index(folder: Path) -> Path:
    """As a recorder leaves it that lost its power: pictures, but no index."""
    film = walkers.film(folder / "film.mp4", [1.0], duration_s=4)
    content = film.read_bytes()
    film.write_bytes(content[: content.index(b"moov") - 4] + content[content.index(b"mdat") - 4 :])
    return film


BAD_SOURCES = {
    absent: "no such file",
    a_folder: "is a folder, not a video",
    empty: "is empty (0 bytes)",
    text: "is not a video",
    sound_only: "has sound but no pictures",
    no_index: "without a readable index",
}


@pytest.mark.parametrize(("make", "said"), BAD_SOURCES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_source_alone_starts_nothing(make, said, tmp_path, state, out):
    line = line_of(identrix("run", "-s", f"door={make(tmp_path)}", "--out", out, *QUICK), BAD_INPUT)
    assert said in line and "door" in line
    assert not out.exists() and not state.exists()


def test_a_bad_camera_does_not_stop_a_good_one(walk, state, tmp_path, out):
    done = identrix("run", *films({"a": walk["a"], "bad": text(tmp_path)}), "--out", out, *QUICK)
    assert done.exit_code == CAMERA_FAILED and done.stdout.startswith("4 persons, 4 stays")
    reason, last = done.stderr.splitlines()
    assert "bad" in reason and "is not a video" in reason and last == "1 of 2 cameras ended in error: bad"
    assert read_tracks(out)["camera"].unique().to_pylist() == ["a"]
    assert "is not a video" in json.loads((out / "run.json").read_text())["failed_cameras"]["bad"]


def test_a_film_that_was_cut_is_read_to_the_cut(walk, state, tmp_path, out):
    content = walk["a"].read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 6 // 10])
    done = identrix("run", *films({"a": cut, "b": walk["b"]}), "--out", out, *QUICK)
    assert done.exit_code == DONE
    (line,) = done.stderr.splitlines()
    assert "camera a" in line and "before the end that its header promises" in line
    read = {name: c["frames_read"] for name, c in json.loads((out / "run.json").read_text())["cameras"].items()}
    assert 0 < read["a"] < read["b"] == walkers.FPS * walkers.DURATION_S


def test_a_camera_that_ends_early(walk, state, tmp_path, out):
    short = walkers.film(tmp_path / "short.mp4", walkers.ENTERS_A_S, duration_s=9)
    done = identrix("run", *films({"a": short, "b": walk["b"]}), "--out", out, *QUICK)
    assert (done.exit_code, done.stderr) == (DONE, "")
    last_s = {name: c["last_s"] for name, c in json.loads((out / "run.json").read_text())["cameras"].items()}
    assert last_s == {"a": pytest.approx(8.8), "b": pytest.approx(29.8)}


def test_nobody_came(state, tmp_path, out):
    film = walkers.film(tmp_path / "empty room.mp4", [], duration_s=5)
    done = identrix("run", *films({"a": film}), "--out", out, *PLAIN)
    assert (done.exit_code, done.stderr) == (DONE, "") and done.stdout.startswith("0 persons, 0 stays")
    assert read_tracks(out).num_rows == 0 and (out / "tracks" / "a.txt").read_text() == ""
    assert (out / "video" / "a.mp4").stat().st_size > 0


# ----------------------------------------------------------------------------------------------------- configuration

BAD_SETTINGS = {
    "detector.modle=motion": "detector.modle: unknown key; did you mean 'model'?",
    "nonsense=1": "nonsense: unknown key",
    "reid.max_crops=many": "reid.max_crops: input should be a valid integer",
    "cameras.0.stride=0": "cameras.0.stride: input should be greater than or equal to 1 (got 0)",
    "match.margin=2": "match: margin must lie in [0, 1), got 2",
    "cameras.1.name=a": "two cameras are called 'a'",
    "cameras.1.name=mosaic": "is taken",
    "detector.model=yolo99": "no model named 'yolo99'",
    "reid.encoder=osnet_x9": "no model named 'osnet_x9'; did you mean",
    "redis.url=http://localhost": "redis.url: must be 'embedded' or start with redis://",
    "device=cuda:77": "device cuda:77: this machine has no such GPU",
}


@pytest.mark.parametrize(("setting", "said"), BAD_SETTINGS.items())
def test_a_bad_setting_starts_nothing(setting, said, walk, state, out):
    line = line_of(identrix("run", *films(walk), "--out", out, *QUICK, "--set", setting), BAD_INPUT)
    assert said in line
    assert not out.exists() and not state.exists()


def test_two_sources_of_one_name(walk, state, out):
    sources = [part for path in walk.values() for part in ("-s", f"hall={path}")]
    assert "two cameras are called 'hall'" in line_of(identrix("run", *sources, "--out", out, *QUICK), BAD_INPUT)


def test_a_bad_configuration_file_is_named(tmp_path, state, out):
    site = tmp_path / "site.yaml"
    site.write_text("cameras: [{name: a, source: a.mp4, strid: 2}]\n")
    line = line_of(identrix("run", "--config", site, "--out", out), BAD_INPUT)
    assert line == f"{site}: cameras.0.strid: unknown key; did you mean 'stride'?"
    site.write_text("cameras: [\n")
    assert f"{site}, line 2: not valid YAML" in line_of(identrix("run", "--config", site, "--out", out), BAD_INPUT)


# ----------------------------------------------------------------------------------------------------------- weights


def with_weights(walk: dict[str, Path], out: Path, key: str, path: Path | str) -> str:
    line = line_of(identrix("run", *films(walk), "--out", out, *QUICK, "--set", f"{key}={path}"), BAD_INPUT)
    assert not out.exists()
    return line


@pytest.mark.parametrize("key", ["detector.model", "reid.encoder"])
def test_weights_that_are_absent_or_no_weights(key, walk, state, out, tmp_path):
    for name in ("x.pt", "x.onnx", "x.xml"):
        assert "no weights at" in with_weights(walk, out, key, tmp_path / "absent" / name)
        for content in (b"", b"no weights " * 100):
            (tmp_path / name).write_bytes(content)
            assert name in with_weights(walk, out, key, tmp_path / name)


def test_weights_that_cannot_be_fetched(walk, state, out, tmp_path, monkeypatch):
    for variable in ("IDENTRIX_MODELS", "IDENTRIX_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    line = with_weights(walk, out, "reid.encoder", "retail-0277")
    assert "by hand and put it into" in line and str(tmp_path / "IDENTRIX_MODELS") in line


def test_truncated_weights(walk, state, out, tmp_path, models_dir):
    osnet = tmp_path / "osnet.onnx"
    osnet.write_bytes((models_dir / "osnet_x0_25_msmt17.onnx").read_bytes()[:300_000])
    assert "osnet.onnx" in with_weights(walk, out, "reid.encoder", osnet)

    yolo = shutil.copytree(models_dir / "yolo11n_int8_openvino_model", tmp_path / "x_openvino_model")
    (weights,) = yolo.glob("*.bin")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:100_000])
    assert "x_openvino_model" in with_weights(walk, out, "detector.model", yolo)


def test_weights_of_another_model(walk, state, out, models_dir):
    line = with_weights(walk, out, "detector.model", models_dir / "osnet_x0_25_msmt17.onnx")
    assert "osnet_x0_25_msmt17.onnx" in line
    (yolo,) = (models_dir / "yolo11n_int8_openvino_model").glob("*.xml")
    line = with_weights(walk, out, "reid.encoder", yolo)
    assert yolo.name in line or "one vector per crop" in line
    (intel,) = (models_dir / "person-reidentification-retail-0277").glob("*.xml")
    assert intel.name in with_weights(walk, out, "detector.model", intel)


# ------------------------------------------------------------------------------------------------------------- Redis


@contextmanager
def web_server() -> Iterator[int]:
    """Something that is no Redis, on a port."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def with_redis(walk: dict[str, Path], out: Path, url: str) -> str:
    line = line_of(identrix("run", *films(walk), "--out", out, *QUICK, "--set", f"redis.url={url}"), STORAGE)
    assert not out.exists()
    return line


def test_redis_refuses(walk, state, out):
    port = free_port()
    line = with_redis(walk, out, f"redis://me:s3cret@127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in line and "is it running?" in line and "s3cret" not in line


def test_something_else_answers(walk, state, out):
    with web_server() as port:
        line = with_redis(walk, out, f"redis://127.0.0.1:{port}")
        assert f"127.0.0.1:{port}" in line and "Redis server" in line


def test_wrong_password(walk, state, out, tmp_path):
    with running("embedded", tmp_path, "--requirepass", "right") as url:
        line = with_redis(walk, out, url.replace("unix://", "unix://:wr0ng@"))
        assert "refuses the login" in line and "wr0ng" not in line


def test_embedded_redis_dies_and_comes_back(walk, state, tmp_path, monkeypatch):
    reference = identrix("run", *films(walk), "--out", tmp_path / "r1", *QUICK, "--site", "reference")
    assert reference.exit_code == DONE
    identrix("run", *films(walk), "--out", tmp_path / "r2", *QUICK, "--site", "reference")

    def die() -> None:
        server = EmbeddedServer(state / "identrix")  # shares the run's
        kill_server(server.url)

    monkeypatch.setattr(run_pipeline, "progress", acting_at(14.0, die))
    done = identrix("run", *films(walk), "--out", tmp_path / "s1", *QUICK, "--site", "struck")
    monkeypatch.undo()
    monkeypatch.setenv("IDENTRIX_STATE", str(state))
    assert done.exit_code == DONE and done.stdout.startswith("4 persons, 8 stays, 4 transitions")
    assert "Redis was away for" in done.stderr and "nothing was lost" in done.stderr

    identrix("run", *films(walk), "--out", tmp_path / "s2", *QUICK, "--site", "struck")
    assert learnt_before(tmp_path / "s2") == learnt_before(tmp_path / "r2") != []


def test_the_server_of_a_killed_run_ends_while_the_next_begins(walk, state, out, monkeypatch):
    begun = []

    def struck(*arguments: object, **options: object) -> TableWriter:
        if not begun:
            kill_server(EmbeddedServer(state / "identrix").url)
        begun.append(1)
        return TableWriter(*arguments, **options)

    monkeypatch.setattr("pipeline.site_store.TableWriter", struck)
    done = identrix("run", *films(walk), "--out", out, *QUICK)
    assert (done.exit_code, done.stderr, len(begun)) == (DONE, "", 2)


def test_redis_dies_for_good_and_counts_merge_later(walk, state, tmp_path, monkeypatch):
    """What was learnt meanwhile waits in the state folder, and the next run counts it once."""
    server = tmp_path / "server"
    server.mkdir()
    with running("embedded", server) as url:
        use = ("--set", f"redis.url={url}", "--site", "own")
        monkeypatch.setattr(run_pipeline, "progress", acting_at(5.0, lambda: kill_server(url)))
        done = identrix("run", *films(walk), "--out", tmp_path / "struck", *QUICK, *use)
    monkeypatch.undo()
    monkeypatch.setenv("IDENTRIX_STATE", str(state))
    assert "the counts are kept in the state folder and merge at the next start" in line_of(done, STORAGE)
    assert done.stdout.startswith("4 persons, 8 stays, 4 transitions")
    assert json.loads((tmp_path / "struck" / "run.json").read_text())["counters"]["degraded_s"] > 0

    with running("embedded", server):
        for name in ("next", "after"):
            assert identrix("run", *films(walk), "--out", tmp_path / name, *QUICK, *use).exit_code == DONE
    assert identrix("run", *films(walk), "--out", tmp_path / "r1", *QUICK, "--site", "own").exit_code == DONE
    assert identrix("run", *films(walk), "--out", tmp_path / "r2", *QUICK, "--site", "own").exit_code == DONE
    assert learnt_before(tmp_path / "next") == learnt_before(tmp_path / "r2") != []


# -------------------------------------------------------------------------------------------------------------- disk


@pytest.mark.parametrize("where", ["/proc/run", "{file}/run", "{file}"])
def test_an_output_folder_that_cannot_be_written(where, walk, state, tmp_path):
    file = tmp_path / "file"
    file.touch()
    out = where.format(file=file)
    line = line_of(identrix("run", *films(walk), "--out", out, *QUICK), STORAGE)
    assert f"cannot write {out}" in line
    assert not state.exists()  # nor were tables touched


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond this many bytes: as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_in_mid_run(walk, state, out, monkeypatch):
    monkeypatch.setattr(journal_writer, "FLUSH_S", 0.0)
    with files_up_to(12_000):
        done = identrix("run", *films(walk), "--out", out, *QUICK)
    assert done.exit_code == STORAGE
    kept, reason = done.stderr.splitlines()
    assert f"identrix finish {out}" in kept and "cannot write" in reason
    assert identrix("finish", out).exit_code == DONE and read_tracks(out).num_rows > 0


def test_no_room_for_the_videos(walk, state, out):
    """The answer is written first; it is whole even if the videos do not fit."""
    with files_up_to(100_000):
        done = identrix("run", *films(walk), "--out", out, *PLAIN, "--set", "output.plots=false")
    line = line_of(done, STORAGE)
    assert "cannot write" in line and ".mp4" in line
    facts = json.loads((out / "run.json").read_text())
    assert facts["counters"]["transitions"] == walkers.PEOPLE and not facts["interrupted"]
    assert not (out / "journal").exists() and read_tracks(out).num_rows > 0


# ------------------------------------------------------------------------------------------------------ being stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_whole_files(number, walk, state, out, monkeypatch):
    import av

    before = signal.getsignal(number)
    monkeypatch.setattr(run_pipeline, "progress", acting_at(14.0, lambda: os.kill(os.getpid(), number)))
    done = identrix("run", *films(walk), "--out", out, *PLAIN)
    assert done.exit_code == INTERRUPTED and done.stdout.startswith("3 persons")
    frames = 14 * walkers.FPS + 1
    for name in ("a", "b", "mosaic"):  # what was seen is drawn, and no more
        with av.open(str(out / "video" / f"{name}.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == frames
    assert read_tracks(out)["time_s"].to_numpy().max() <= 14.0
    assert json.loads((out / "run.json").read_text())["interrupted"] and not (out / "journal").exists()
    assert signal.getsignal(number) == before


def test_ctrl_c_twice_gives_up_at_once(walk, state, out, monkeypatch):
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run_pipeline, "progress", acting_at(14.0, twice))
    done = identrix("run", *films(walk), "--out", out, *QUICK)
    assert done.exit_code == INTERRUPTED and done.stderr.splitlines()[-1] == "stopped"
    assert identrix("finish", out).exit_code == DONE and read_tracks(out)["time_s"].to_numpy().max() >= 12.0


def test_ctrl_c_at_a_terminal(walk, state, out, tmp_path):
    """A terminal sends it to every process of the group, but the embedded server has to outlive the last flush. And a
    process of its own has nothing to say but this: no library may chatter."""
    script = (
        "import door, os, signal\n"
        "run_pipeline.progress = door.acting_at(20.0, lambda: os.killpg(os.getpgid(0), signal.SIGINT))"
    )
    done = own_process(script, "run", *films(walk), "--out", out, *PLAIN, state=state, start_new_session=True)
    assert done.stderr == "finishing: files are being completed (Ctrl-C again to give up)\n"
    assert done.returncode == INTERRUPTED and done.stdout == f"4 persons, 7 stays, 3 transitions: {out}\n"
    assert identrix("run", *films(walk), "--out", tmp_path / "next", *QUICK).exit_code == DONE
    assert learnt_before(tmp_path / "next") != []


def test_kill_9_and_finish(walk, state, out):
    script = (
        "import door, os, signal\n"
        "run_pipeline.progress = door.acting_at(28.0, lambda: os.kill(os.getpid(), signal.SIGKILL), slow_s=0.03)"
    )
    done = own_process(script, "run", *films(walk), "--out", out, *QUICK, state=state)
    assert done.returncode == -signal.SIGKILL and not (out / "tracks.csv").exists()
    seen_s = {camera: float(boxes["time_s"].max()) for camera, boxes in read_boxes(out).items()}
    assert min(seen_s.values()) > 10.0  # 28 s of film in at least 4.2 s, and a flush every second
    said = len(read_journal_sightings(out))
    assert said >= 4

    again = identrix("run", *films(walk), "--out", out, *QUICK)
    assert again.exit_code == BAD_INPUT and f"identrix finish {out}" in again.stderr
    finished = identrix("finish", out)
    assert finished.exit_code == DONE and finished.stdout.endswith(f"{out}\n") and finished.stderr == ""
    assert read_tracks(out).num_rows > 0 and len(read_decisions(out / "decisions.jsonl")) <= said
    assert {path.name for path in (out / "tracks").iterdir()} == {"a.txt", "b.txt"}
    assert json.loads((out / "run.json").read_text())["interrupted"]
    assert '"interrupted":true' in (out / "report.html").read_text()
    assert "no unfinished run" in line_of(identrix("finish", out), BAD_INPUT)
    replaced = identrix("run", *films(walk), "--out", out, *QUICK, "--overwrite")
    assert replaced.exit_code == DONE, replaced.stderr


# ------------------------------------------------------------------------------------------------------------ errors


def error_classes() -> list[type[BaseException]]:
    """Every exception class that a room or the hall defines."""
    found = []
    for path in sorted(
        path for room in ("detectors", "reid", "st_model", "pipeline") for path in (ROOT / room).glob("*.py")
    ):
        names = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(base) for base in node.bases)
        ]
        if names:
            module = import_module(f"{path.parent.name}.{path.stem}")
            found += [getattr(module, name) for name in names]
    return found


def test_every_error_has_an_exit_code():
    kinds = error_classes()
    assert len(kinds) > 30
    assert [str(kind) for kind in kinds if code_of(kind("why")) not in (BAD_INPUT, STORAGE)] == []
