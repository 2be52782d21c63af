"""Clocks of Market-1501's cameras, by looks: what the data's README says of them is found, without labels."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tracklog import read_sightings
from st_model.clock_lags import lag_steps, lags_of_stays


@pytest.mark.parametrize("encoder", ["osnet_market", "osnet_msmt"])
def test_the_clocks_that_are_off_are_found(data_dir, encoder):
    path = data_dir / "market_stream" / f"sightings_{encoder}.parquet"
    if not path.is_file():
        pytest.skip("no market_stream in $IDENTRIX_DATA")
    stays = list({s.key: s for s in read_sightings(path) if s.closed}.values())
    steps = lag_steps(
        lags_of_stays(
            [s.camera for s in stays],
            np.array([s.entered_s for s in stays]),
            np.array([s.last_s for s in stays]),
            np.stack([s.embedding for s in stays]),
        )
    )
    of = {camera: [s for s in steps if s.camera == camera] for camera in ("c1", "c2", "c3", "c4", "c5", "c6")}
    assert {camera: len(found) for camera, found in of.items()} == {
        "c1": 1,
        "c2": 1,
        "c3": 1,
        "c4": 2,
        "c5": 1,
        "c6": 2,
    }
    assert -3290.0 <= of["c6"][1].offset_s <= -3160.0
    assert -145.0 <= of["c4"][1].offset_s <= -95.0
    sound = [*of["c1"], *of["c2"], *of["c3"], *of["c5"], of["c4"][0], of["c6"][0]]
    assert all(abs(s.offset_s) < 2 * s.error_s for s in sound)
    # Both jumps lie in the span before: c6's clock lives its own time twice there.
    assert {of["c4"][1].from_s, of["c6"][1].from_s} == {stays_begin(stays) + 2 * 2400.0}


def stays_begin(stays):
    return min((s.entered_s + s.last_s) / 2 for s in stays)
