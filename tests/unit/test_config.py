"""The configuration: what is accepted, and how what is not accepted is said."""

import pytest

from pipeline.config import Config, ConfigError, check_encoder, load_config, load_machine_config, load_match_config

GOOD = """
site: shop
cameras:
  - {name: lobby, source: videos/lobby.mp4, start: 2026-11-22T10:00:00Z}
  - {name: exit, source: "rtsp://user:${CAM_PASSWORD}@10.0.0.9/1", offset_s: -1.5, detect_hz: 5}
detector: {model: motion}
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_PASSWORD", "secret")

    def write(text=GOOD):
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return path

    return write


def test_reads_a_site_with_paths_from_its_folder_and_secrets_from_the_environment(site, tmp_path):
    config = load_config(site())
    lobby, exit_ = config.cameras
    assert lobby.source == str(tmp_path / "videos/lobby.mp4")
    assert lobby.start == 1795341600.0
    assert exit_.source == "rtsp://user:secret@10.0.0.9/1"
    assert (exit_.offset_s, exit_.detect_hz, config.site_name) == (-1.5, 5, "shop")


def test_overrides_win_and_reach_into_lists(site):
    config = load_config(site(), overrides=["cameras.0.offset_s=2", "reid.encoder=stripes"])
    assert config.cameras[0].offset_s == 2
    assert config.reid.encoder == "stripes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camera: []", "camera"),
        ("", "empty"),
        ("[1, 2]", "expected keys"),
        ("cameras: [", "not valid YAML"),
        ("cameras: []", "no cameras"),
        (
            "cameras: [{name: a, source: a.mp4}]\ndetector: {modell: motion}",
            "detector.modell: unknown key; did you mean 'model'?",
        ),
        ("cameras: [{name: a, source: a.mp4}]\ndetectr: {}", "detectr: unknown key; did you mean 'detector'?"),
        ("cameras: [{name: a, sorce: a.mp4}]", "cameras.0.sorce: unknown key; did you mean 'source'?"),
        ("cameras: [{name: a, source: a.mp4}]\ntracker: {methd: botsort}", "did you mean 'method'?"),
        ("cameras: [{name: a, source: a.mp4}]\ntables: {bin: 2}", "tables.bin: unknown key; did you mean 'bin_s'?"),
        (
            "cameras: [{name: a, source: a.mp4}]\nmatch: {calibration: {gain: 2}}",
            "match.calibration.gain: unknown key; expected one of: b0, g0",
        ),
        ("cameras: [{name: a, source: a.mp4, offset_s: soon}]", "cameras.0.offset_s: input should be a valid number"),
        ("cameras: [{name: a, source: a.mp4, start: yesterday}]", "cameras.0.start: must be seconds or a date"),
        ("cameras: [{name: a, source: a.mp4}, {name: A, source: b.mp4}]", "two cameras are called 'A'"),
        ("cameras: [{name: ../a, source: a.mp4}]", "names files"),
        ("cameras: [{name: a, source: a.mp4}]\nredis: {url: 'http://x'}", "redis.url: must be 'embedded'"),
        ("cameras: [{name: a, source: a.mp4}]\ndetector: {model: recorded}", "recorded_dir"),
        ("cameras: [{name: a, source: '${NOT_SET_ANYWHERE}'}]", "NOT_SET_ANYWHERE"),
    ],
)
def test_says_what_is_wrong_and_where(site, text, said):
    path = site(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "no.yaml")


@pytest.mark.parametrize("arguments", [["a="], [], ["a=1", "a=2"]])
def test_bad_sources_on_the_command_line(arguments):
    with pytest.raises(ConfigError):
        load_config(sources=arguments)


def test_bare_sources_are_named_after_themselves():
    config = load_config(sources=["clips/hall.mp4", "0", "door=rtsp://h/1?a=b", "rtsp://h/live?x=1"][:3])
    assert [camera.name for camera in config.cameras] == ["hall", "cam0", "door"]


def test_a_calibration_given_in_part_is_completed_by_the_shipped_one(site):
    shipped = load_config(site()).match.calibration
    mixed = load_config(site(), overrides=["match.calibration.b0=-3"]).match.calibration
    assert (mixed.g0, mixed.b0) == (shipped.g0, -3)


def test_an_override_below_a_single_value_is_one_clear_line(site):
    with pytest.raises(ConfigError, match=r"--set device\.deep: there is nothing below 'device'"):
        load_config(site(GOOD + "device: cpu\n"), overrides=["device.deep=1"])


@pytest.mark.parametrize("override", ["novalue", "cameras.x=1", "detector.model.deep=1", "=3"])
def test_bad_overrides(override):
    with pytest.raises(ConfigError):
        load_config(sources=["a=1"], overrides=[override])


def test_the_same_cameras_are_the_same_site_and_others_are_not():
    one, same, other = (
        load_config(sources=s).site_name for s in (["a=x.mp4", "b=y.mp4"], ["b=y.mp4", "a=x.mp4"], ["a=x.mp4"])
    )
    assert one == same != other


def test_neighbours_are_areas_of_the_site():
    cameras = [{"name": "a", "source": "a.mp4", "area": "hall"}, {"name": "b", "source": "b.mp4"}]
    Config.model_validate({"cameras": cameras, "streams": {"neighbours": {"hall": ["main"]}}})
    with pytest.raises(ValueError, match="no camera is in area 'yard'; the areas are hall, main"):
        Config.model_validate({"cameras": cameras, "streams": {"neighbours": {"hall": ["yard"]}}})


@pytest.mark.parametrize("key", ["detector.conf", "cameras.0.offset_s", "device", "output.dir", "privacy.blur"])
def test_a_key_of_cameras_is_not_for_commands_that_look_through_none(key):
    with pytest.raises(ConfigError) as error:
        load_match_config({"detector": {"conf": 0.2}}, overrides=["match.g1=0.5", f"{key}=1"])
    said = f"command line: {key}: this command does not use it (it works on what was already seen)"
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nosuch.conf=1", "nosuch: unknown key; expected one of: events, frozen, match, metrics, redis, reid, "),
        ("tabels.bin_s=1", "tabels: unknown key; did you mean 'tables'?"),
        ("tables.bin=1", "tables.bin: unknown key; did you mean 'bin_s'?"),
    ],
)
def test_matching_names_its_own_keys(override, said):
    with pytest.raises(ConfigError) as error:
        load_match_config({}, overrides=[override])
    assert said in str(error.value) and "detector" not in str(error.value)


def test_an_encoder_that_was_asked_for_must_be_known():
    with pytest.raises(ConfigError, match=r"reid\.encoder: no encoder named 'osnet_x9'; did you mean 'osnet'"):
        load_match_config({}, overrides=["reid.encoder=osnet_x9"])
    with pytest.raises(ConfigError, match=r"reid\.encoder: no encoder named 'nosuch'; known: pair, stripes"):
        load_match_config({"reid": {"encoder": "theirs"}}, overrides=["reid={encoder: nosuch}"])
    assert load_match_config({}, overrides=["reid.encoder=osnet"]).match.calibration.g0 == 22.0


def test_an_encoder_of_another_program_that_was_recorded_is_taken_as_it_is():
    recorded = {"reid": {"encoder": "theirs"}}
    assert load_match_config(recorded, overrides=["match.g1=0.5"]).reid.encoder == "theirs"
    assert load_match_config(recorded, overrides=["reid.encoder=theirs"]).reid.encoder == "theirs"


def test_an_encoder_is_a_name_or_a_file_that_is_there(tmp_path):
    weights = tmp_path / "network.safetensors"
    with pytest.raises(ConfigError, match=r"--encoder: nothing at .*network\.safetensors; give a model card, weights"):
        check_encoder(str(weights))
    weights.touch()
    for known in (str(weights), "pair", "retail-0277", "person-reidentification-retail-0277.xml"):
        check_encoder(known)
    for other in ("yolo11n", "yunet", "nosuch"):  # two of them are models, but describe nobody
        with pytest.raises(ConfigError, match=f"--encoder: no encoder named '{other}'"):
            check_encoder(other)


def test_a_machine_has_every_section_and_needs_no_camera():
    config = load_machine_config(["detector.model=motion", "device=cpu"])
    assert (config.detector.model, config.device, config.cameras, config.site_name) == ("motion", "cpu", (), "default")
    with pytest.raises(ConfigError, match=r"command line: detector\.modell: unknown key; did you mean 'model'"):
        load_machine_config(["detector.modell=motion"])
