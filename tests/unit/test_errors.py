"""Every error a room defines has an exit code: pipeline/errors.py knows them by name and could miss a new one."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.errors import BAD_INPUT, STORAGE, code_of

ROOT = Path(__file__).parents[2]


def errors_of(room: str) -> list[type[Exception]]:
    found = []
    for path in sorted((ROOT / room).glob("*.py")):
        names = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(base) for base in node.bases)
        ]
        if names:
            module = import_module(f"{room}.{path.stem}")
            found += [getattr(module, name) for name in names]
    return found


@pytest.mark.parametrize("room", ["detectors", "reid", "st_model", "pipeline"])
def test_every_error_has_an_exit_code(room):
    errors = errors_of(room)
    assert errors
    without = [error.__name__ for error in errors if code_of(error("said")) not in {BAD_INPUT, STORAGE}]
    assert not without


def test_errors_of_others_have_none():
    assert code_of(ValueError("a bug")) is None
    assert code_of(KeyboardInterrupt()) is None
