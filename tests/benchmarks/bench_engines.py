"""Crops per second of one network on every engine of this machine, in one run: one JSON line per engine.

    OMP_NUM_THREADS=1 taskset -c 0 python -m tests.benchmarks.bench_engines
        [WEIGHTS | --small] [--device cuda:0] [--batches 1 8 32] [--compile] [--json OUT]

Without WEIGHTS: a DualBackboneNet of ResNet-50 and ViT-B/16 with random weights (speed does not depend on them). It is
exported once; torch eager, torch.compile, ONNX Runtime and OpenVINO then embed the same crops, from the crop to the
unit vector, resizing included. One core for all (taskset): engines take their threads from different places. They take
turns; figures are medians of CPU time, on a GPU of wall time. `times_eager` is the ratio to torch eager at the same
batch: the median over rounds, with the least and the largest, each of two calls that followed each other. On a GPU
also float16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reid.cards import read_card
from reid.encoders import Encoder, EncoderError, Speed, load_encoder
from reid.openvino_encoder import OpenVinoEncoder


def network(folder: Path, small: bool) -> Path:
    """A dual backbone with random weights."""
    import torch

    from reid.dual_backbone import Architecture, DualBackboneNet, save

    torch.manual_seed(0)
    path = folder / "dual.safetensors"
    save(DualBackboneNet(Architecture("resnet18", "vit_tiny_patch16_224") if small else Architecture()), path)
    return path


def engines(weights: Path, folder: Path, device: str, compiled: bool) -> dict[str, Encoder]:
    """Every engine that can be had here."""
    from reid.export import export_onnx

    done = export_onnx(weights, folder / "exported.onnx")
    card = read_card(done.card)
    print(json.dumps({"exported": done.differences}), flush=True)
    gpu = device.startswith("cuda")
    makers = {
        "torch eager": lambda: load_encoder("torch", weights, device),
        "onnxruntime": lambda: load_encoder("onnx", done.card, device),
    }
    if compiled:
        makers["torch.compile"] = lambda: load_encoder("torch", weights, device, speed=Speed(compile=True))
    if gpu:
        makers["torch eager fp16"] = lambda: load_encoder("torch", weights, device, speed=Speed(half=True))
        makers["torch.compile fp16"] = lambda: load_encoder(
            "torch", weights, device, speed=Speed(half=True, compile=True)
        )
        makers["tensorrt fp16"] = lambda: load_encoder("onnx", done.card, device, speed=Speed(half=True, tensorrt=True))
    else:
        makers["openvino"] = lambda: OpenVinoEncoder("openvino", card.file, card.preprocessing)
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (EncoderError, RuntimeError) as error:
            print(json.dumps({"engine": name, "missing": str(error).splitlines()[0]}), flush=True)
    return made


def measure(
    encoders: dict[str, Encoder], batch: int, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Engine -> crops per second of `clock` in each round; engines take turns."""
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (180, 70, 3), np.uint8) for _ in range(batch)]
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for turn in range(rounds + 1):
        for name, encode in encoders.items():
            start = clock()
            encode(crops)
            if turn:  # the first is for warming up
                seconds[name].append(clock() - start)
    return {name: [batch / second for second in taken] for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", nargs="?", type=Path)
    parser.add_argument("--small", action="store_true", help="ResNet-18 and ViT-Tiny instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: it takes minutes to begin")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import torch

    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()
    torch.set_num_threads(threads)
    # Of one core, CPU time is what a quiet machine's wall time would be; a GPU works while the CPU waits.
    clock = time.perf_counter if arguments.device.startswith("cuda") else time.process_time
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = arguments.weights or network(folder, arguments.small)
        encoders = engines(weights, folder, arguments.device, arguments.compile)
        for batch in arguments.batches:
            rates = measure(encoders, batch, arguments.rounds, clock)
            for engine, rate in rates.items():
                times = [ours / eager for ours, eager in zip(rate, rates["torch eager"], strict=True)]
                row = {
                    "engine": engine,
                    "batch": batch,
                    "crops_per_s": round(statistics.median(rate), 2),
                    "times_eager": round(statistics.median(times), 2),
                    "least": round(min(times), 2),
                    "most": round(max(times), 2),
                }
                print(json.dumps(row), flush=True)
                rows.append(row)
    if arguments.json:
        facts = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": threads,
            "device": arguments.device,
            "torch": torch.__version__,
            "network": str(arguments.weights.name)
            if arguments.weights
            else "small"
            if arguments.small
            else "R50+ViT-B",
        }
        arguments.json.write_text(json.dumps({"benchmark": "engines", **facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
