"""From names to files, and every way in which a download can go wrong."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline import weights
from pipeline.known_models import KNOWN_MODELS, Model, ModelFile
from pipeline.weights import DownloadFailed, UnknownModel, WeightsError, WeightsNotFound, WrongChecksum

CONTENT = b"weights of a network " * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Publisher(BaseHTTPRequestHandler):
    """/whole gives the file, /short breaks off half-way, /gone is a 404; counts what it was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/gone/" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "/short/" in self.path else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Waits for its threads when closed, so that no socket outlives a test."""

    daemon_threads = False


@pytest.fixture
def publisher() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Publisher,), {"asked": []})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder of models."""
    monkeypatch.setenv("IDENTRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IDENTRIX_MODELS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "models"


def published(
    monkeypatch: pytest.MonkeyPatch, server: ThreadingHTTPServer, how: str = "whole", sha256: str | None = SUM
) -> Model:
    """Make `net` the only model, kept at this server."""
    url = f"http://127.0.0.1:{server.server_address[1]}/{how}/net.onnx"
    model = Model("net", "encoder", "MIT", "for the test", (ModelFile("net.onnx", url, sha256),), ("net.onnx",))
    monkeypatch.setattr(weights, "KNOWN_MODELS", (model,))
    return model


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_download_is_checked_kept_and_not_repeated(
    publisher: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher)
    assert weights.locate("net") is None
    path = weights.resolve("net")
    assert path == cache / "net" / "net.onnx"
    assert path.read_bytes() == CONTENT
    assert weights.resolve("net") == weights.locate("net") == path
    assert publisher.RequestHandlerClass.asked == ["/whole/net.onnx"]
    assert leftovers(cache) == ["net.onnx"]


def test_a_damaged_cache_is_fetched_again(
    publisher: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher)
    weights.resolve("net").write_bytes(CONTENT[:100])
    assert weights.locate("net") is None
    assert weights.resolve("net").read_bytes() == CONTENT


def test_a_wrong_sum_is_refused_and_nothing_is_kept(
    publisher: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher, sha256="0" * 64)
    with pytest.raises(WrongChecksum, match=f"sha256 {SUM}, expected 0000") as caught:
        weights.resolve("net")
    assert "\n" not in str(caught.value)
    assert leftovers(cache) == []


def test_an_unknown_sum_is_trusted_once(
    publisher: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher, sha256=None)
    path = weights.resolve("net")
    assert leftovers(cache) == ["net.onnx", "net.onnx.sha256"]
    assert path.with_name("net.onnx.sha256").read_text() == f"{SUM}  net.onnx\n"
    path.unlink()
    path.with_name("net.onnx.sha256").write_text(f"{'1' * 64}  net.onnx\n")
    with pytest.raises(WrongChecksum, match="expected 1111"):
        weights.resolve("net")


@pytest.mark.parametrize(("how", "says"), [("short", "broke off after|IncompleteRead"), ("gone", "Not Found")])
@pytest.mark.parametrize("sha256", [SUM, None])
def test_a_failed_transfer_leaves_nothing_behind(
    publisher: ThreadingHTTPServer,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    says: str,
    sha256: str | None,
) -> None:
    model = published(monkeypatch, publisher, how, sha256)
    with pytest.raises(DownloadFailed, match=says) as caught:
        weights.resolve("net")
    line = str(caught.value)
    assert "\n" not in line
    assert model.files[0].url in line  # what to fetch
    assert str(cache / "net") in line  # and where to put it
    assert leftovers(cache) == []


def test_no_network_says_what_to_fetch_and_where_to_put_it(
    publisher: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = published(monkeypatch, publisher)
    file = replace(model.files[0], url=f"http://127.0.0.1:{port}/net.onnx")
    monkeypatch.setattr(weights, "KNOWN_MODELS", (replace(model, files=(file,)),))
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    with pytest.raises(
        DownloadFailed, match=f"fetch http://127.0.0.1:{port}/net.onnx by hand and put it into {tmp_path}"
    ):
        weights.resolve("net")
    with pytest.raises(ConnectionError):
        weights.resolve("net")


def test_a_publisher_that_falls_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, publisher: ThreadingHTTPServer
) -> None:
    model = published(monkeypatch, publisher)
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        file = replace(model.files[0], url=f"http://127.0.0.1:{silent.getsockname()[1]}/net.onnx")
        monkeypatch.setattr(weights, "KNOWN_MODELS", (replace(model, files=(file,)),))
        with pytest.raises(DownloadFailed, match="timed out"):
            weights.resolve("net")


def test_a_cache_that_cannot_be_written(
    publisher: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot write to the cache"):
        weights.resolve("net")


def test_the_models_folder_goes_before_the_cache(
    publisher: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, publisher)
    (tmp_path / "net.onnx").write_bytes(b"my own export")
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    assert weights.resolve("net") == weights.locate("net") == tmp_path / "net.onnx"
    assert publisher.RequestHandlerClass.asked == []


@pytest.mark.parametrize(
    "there", ["yolo11n.engine", "yolo11n_int8_openvino_model", "yolo11n_openvino_model", "yolo11n.onnx", "yolo11n.pt"]
)
def test_any_export_of_a_detector_in_the_models_folder_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    (tmp_path / there).touch()
    assert weights.resolve("yolo11n") == tmp_path / there
    assert weights.resolve("yolo11n.pt") == tmp_path / there  # the name that Ultralytics' users write


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mine.onnx"
    own.touch()
    assert weights.resolve(str(own)) == own
    assert weights.resolve_all(str(own)) == {str(own): own}
    monkeypatch.chdir(tmp_path)
    assert weights.resolve("mine.onnx") == Path("mine.onnx")
    for missing in ("gone.onnx", str(tmp_path / "gone")):
        with pytest.raises(WeightsNotFound, match=r"no weights at .*gone"):
            weights.resolve(missing)
    with pytest.raises(FileNotFoundError):
        weights.resolve_all("gone.onnx")


@pytest.mark.parametrize(("wrong", "near"), [("yolo11x1", "yolo11"), ("retail-277", "retail-0277"), ("pairs", "pair")])
def test_an_unknown_name_is_answered_with_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=rf"no model named '{wrong}'; did you mean .*{near}"):
        weights.resolve(wrong)
    with pytest.raises(UnknownModel, match="known: yolo11n, "):
        weights.find_model("qqqq")


def test_composed_models_resolve_to_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTRIX_MODELS", str(tmp_path))
    retail = tmp_path / "person-reidentification-retail-0277" / "person-reidentification-retail-0277.xml"
    retail.parent.mkdir()
    for path in (retail, tmp_path / "osnet_x0_25_msmt17.onnx"):
        path.touch()
    assert weights.resolve_all("pair") == {
        "person-reidentification-retail-0277": retail,
        "osnet_x0_25_msmt17": tmp_path / "osnet_x0_25_msmt17.onnx",
    }
    assert weights.resolve_all("retail-0277") == {"person-reidentification-retail-0277": retail}
    assert weights.resolve_all("stripes") == {}
    assert weights.locate("pair") is None
    with pytest.raises(WeightsError, match="no weights file of its own"):
        weights.resolve("pair")


def test_the_cache_follows_the_xdg_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDENTRIX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_dir() == tmp_path / "identrix" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert weights.cache_dir() == tmp_path / "home" / ".cache" / "identrix" / "models"


def test_sha256_of_files_folders_and_two_file_models(tmp_path: Path) -> None:
    single = tmp_path / "net.onnx"
    single.write_bytes(CONTENT)
    assert weights.sha256_of(single) == SUM
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.bin").write_bytes(b"b")
    (folder / "sub" / "a.xml").write_bytes(b"a")
    b, a = (hashlib.sha256(letter).hexdigest() for letter in (b"b", b"a"))
    assert weights.sha256_of(folder) == hashlib.sha256(f"{b}  b.bin\n{a}  sub/a.xml\n".encode()).hexdigest()
    ir = tmp_path / "net.xml"
    ir.write_bytes(b"a")
    assert weights.sha256_of(ir) == a
    ir.with_suffix(".bin").write_bytes(b"b")
    with_weights = weights.sha256_of(ir)
    ir.with_suffix(".bin").write_bytes(b"c")
    assert weights.sha256_of(ir) != with_weights
    with pytest.raises(WeightsNotFound):
        weights.sha256_of(tmp_path / "gone")


def test_the_table_is_sound() -> None:
    names = [name for model in KNOWN_MODELS for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    for model in weights.list_models():
        assert set(model.parts) <= set(names)
        assert bool(model.files) == bool(model.local_names)
        for file in model.files:
            assert file.url.startswith("https://")
            assert file.url.endswith(file.name)
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_files_given_to_the_tests_are_those_that_the_publisher_names(models_dir: Path) -> None:
    """Intel's network is byte for byte the published one, so its sums in the table can be checked."""
    model = weights.find_model("retail-0277")
    folder = models_dir / model.name
    if not folder.is_dir():
        pytest.skip(f"no {model.name} in {models_dir}")
    for file in model.files:
        assert hashlib.sha256((folder / file.name).read_bytes()).hexdigest() == file.sha256
