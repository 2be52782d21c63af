"""`doctor` takes the settings that it advises."""

from __future__ import annotations

import json

from door import identrix


def test_advice_about_the_detector_can_be_taken(tmp_path, monkeypatch):
    for name in ("IDENTRIX_STATE", "IDENTRIX_CACHE", "IDENTRIX_MODELS"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def detector(*settings):
        done = identrix("doctor", "--json", "--set", "reid.encoder=stripes", *settings)
        return next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "detector")

    setting = "detector.model=motion"
    assert f"--set {setting}" in detector()["advice"]
    assert detector("--set", setting)["found"] == "motion: needs no weights"
