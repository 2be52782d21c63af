"""The published space-time method in slow, obvious loops (Wang et al., AAAI 2019, and the authors' code)."""

from __future__ import annotations

import math


def mean_frames(images, cameras):
    """{person: {camera: mean absolute frame}} of (person, camera, frame) triples."""
    out = {}
    for person in sorted({p for p, _, _ in images}):
        out[person] = {}
        for camera in range(cameras):
            frames = [f for p, c, f in images if p == person and c == camera]
            if frames:
                out[person][camera] = sum(frames) / (len(frames) + 1e-7)
    return out


def counts(images, cameras, bins, bin_frames):
    """[to][from][bin]: one count per person and unordered pair of cameras."""
    table = [[[0.0] * bins for _ in range(cameras)] for _ in range(cameras)]
    for seen in mean_frames(images, cameras).values():
        for a in seen:
            for b in seen:
                if a >= b:
                    continue
                gap = seen[b] - seen[a]
                later, earlier = (b, a) if gap >= 0 else (a, b)
                k = int(abs(gap) / bin_frames)
                if k < bins:
                    table[later][earlier][k] += 1
    return table


def smooth(row, sigma):
    """One row, normalised, Gaussian cut at three sigma inclusive, normalised again."""
    bins = len(row)
    total = sum(row) + 1e-7
    out = [0.0] * bins
    for i in range(bins):
        for j in range(bins):
            if abs(i - j) <= int(3 * sigma):
                weight = math.exp(-((i - j) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
                out[i] += row[j] / total * weight
    total = sum(out) + 1e-7
    return [v / total for v in out]


def probability(table, query, image, bin_frames):
    """Table value of one query and one gallery image, each (camera, frame); the table is [to][from][bin]."""
    (query_camera, query_frame), (camera, frame) = query, image
    k = int(abs(query_frame - frame) / bin_frames)
    row = table[query_camera][camera] if query_frame > frame else table[camera][query_camera]
    return row[k] if k < len(row) else 0.0


def joint(cosine, p):
    """The published score with lambda 1 and 2, gamma 5 and 5."""
    return 1 / (1 + math.exp(-5 * cosine)) * 1 / (1 + 2 * math.exp(-5 * p))
