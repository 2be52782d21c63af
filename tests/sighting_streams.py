"""Small streams of sightings for tests: a few people walking between a few cameras."""

from __future__ import annotations

import numpy as np

from st_model.sightings import Sighting


def unit(values: np.ndarray) -> np.ndarray:
    """Unit float32 vector."""
    return (values / np.linalg.norm(values)).astype(np.float32)


def stream(
    seed: int, *, people: int = 6, visits: int = 5, dim: int = 16, noise: float = 0.6, start_s: float = 1000.0
) -> tuple[list[Sighting], dict[tuple[str, int], int]]:
    """Sightings in order of emission and who each stay is.

    People go a -> b (10 s) -> c (20 s) -> a (30 s) ..., entering one after the other; times are multiples of 1/64 s, so
    that adding whole seconds to them is exact.
    """
    rng = np.random.default_rng(seed)
    rows, truth = [], {}
    track = dict.fromkeys("abc", 0)
    for person in range(people):
        look = rng.normal(size=dim)
        t = start_s + 40.0 * person + round(float(rng.uniform(0, 20)) * 64) / 64
        at = int(rng.integers(3))
        for _ in range(visits):
            camera = "abc"[at]
            track[camera] += 1
            stay_s = round(float(rng.uniform(1, 6)) * 64) / 64
            views = [unit(look / np.linalg.norm(look) + noise * rng.normal(size=dim) / np.sqrt(dim)) for _ in range(2)]
            key = (camera, track[camera])
            truth[key] = person
            if stay_s > 1.5:
                rows.append(Sighting(*key, t, t + 1.5, t + 1.5, False, views[0]))
            rows.append(Sighting(*key, t, t + stay_s, t + stay_s, True, views[1]))
            t += stay_s + (10.0, 20.0, 30.0)[at] + round(float(rng.normal(0, 2)) * 64) / 64
            at = (at + 1) % 3
    rows.sort(key=lambda s: (s.emitted_s, s.camera, s.track_id, s.closed))
    return rows, truth
