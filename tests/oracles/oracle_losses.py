"""The losses of training in slow, obvious loops over plain lists."""

from __future__ import annotations

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def info_nce(rows, people, scale):
    """Mean over ordered pairs (a, p) of one person of -log of p's share among p and all images of others."""
    values = []
    for a, anchor in enumerate(rows):
        wrong = [dot(anchor, row) for n, row in enumerate(rows) if people[n] != people[a]]
        for p, positive in enumerate(rows):
            if p == a or people[p] != people[a]:
                continue
            right = math.exp(scale * dot(anchor, positive))
            values.append(-math.log(right / (right + sum(math.exp(scale * s) for s in wrong))))
    return sum(values) / len(values)


def batch_hard_triplet(rows, people, margin):
    """Mean over images with a positive and a negative; 0 without any."""
    values = []
    for a, anchor in enumerate(rows):
        same = [math.dist(anchor, row) for n, row in enumerate(rows) if people[n] == people[a] and n != a]
        other = [math.dist(anchor, row) for n, row in enumerate(rows) if people[n] != people[a]]
        if same and other:
            values.append(max(0.0, margin + max(same) - min(other)))
    return sum(values) / len(values) if values else 0.0


def identity_loss(logits, classes, smoothing):
    """Mean over images and parts of the cross-entropy with the smoothed label."""
    values = []
    for parts, wanted in zip(logits, classes, strict=True):
        for row in parts:
            total = math.log(sum(math.exp(value) for value in row))
            for n, value in enumerate(row):
                target = smoothing / len(row) + (1 - smoothing) * (n == wanted)
                values.append(-target * (value - total))
    return sum(values) / (len(logits) * len(logits[0]))
