"""Writes ONNX files of a few nodes without the onnx package: a picture's channel means, and broken relatives of it.

ONNX is protocol buffers; only the handful of fields needed here are written (onnx/onnx.proto, IR version 8, opset 13).
"""

from __future__ import annotations

import struct
from pathlib import Path

Shape = list[int | str]


def write_channel_means(
    path: Path,
    shape: Shape | None = None,
    *,
    not_a_number: bool = False,
    mixes_batch: bool = False,
    keeps_picture: bool = False,
    weights: str = "",
) -> Path:
    """A network (N, 3, H, W) -> (N, 3): the mean of each channel.

    shape          of the input; default ["batch", 3, 256, 128]
    not_a_number   gives the logarithm of a negative number instead
    mixes_batch    subtracts the mean over the batch: right for batch 1 only in form, wrong in company
    keeps_picture  gives (N, 3, H, W) back instead of vectors
    weights        a second output `branch_weights`: "even" (N, 2) of .5, "sum" (N, 2) that do not sum to 1, "nan", or
                   "shape" (N, 3)
    """
    shape = shape or ["batch", 3, 256, 128]
    nodes = []
    last = "pixels"
    if not keeps_picture:
        nodes.append(_node("ReduceMean", [last], "means", {"axes": [2, 3], "keepdims": 0}))
        last = "means"
    if not_a_number:
        nodes += [_node("Abs", [last], "plus"), _node("Neg", ["plus"], "minus"), _node("Log", ["minus"], "nan")]
        last = "nan"
    if mixes_batch:
        nodes += [
            _node("ReduceMax", [last], "most", {"axes": [0], "keepdims": 1}),
            _node("Add", [last, "most"], "mixed"),
        ]
        last = "mixed"
    nodes.append(_node("Identity", [last], "embedding"))
    if weights:
        nodes += _weights(weights)
    out: Shape = shape if keeps_picture else [shape[0], 3]
    graph = b"".join(_message(1, node) for node in nodes) + _text(2, "tiny")
    graph += _message(11, _tensor("pixels", shape)) + _message(12, _tensor("embedding", out))
    if weights:
        graph += _message(12, _tensor("branch_weights", [shape[0], 3 if weights == "shape" else 2]))
    path.write_bytes(_number(1, 8) + _message(8, _text(1, "") + _number(2, 13)) + _message(7, graph))
    return path


def _weights(kind: str) -> list[bytes]:
    if kind == "shape":
        return [_node("Identity", ["means"], "branch_weights")]
    nodes = [
        _node("ReduceMean", ["means"], "grey", {"axes": [1], "keepdims": 1}),
        _node("Concat", ["grey", "grey"], "twice", {"axis": 1}),
    ]
    if kind == "nan":
        nodes += [_node("Abs", ["twice"], "above"), _node("Neg", ["above"], "below")]
    last = {"even": ("Softmax", "twice"), "sum": ("Identity", "twice"), "nan": ("Log", "below")}[kind]
    return [*nodes, _node(last[0], [last[1]], "branch_weights")]


def _node(kind: str, inputs: list[str], output: str, attributes: dict[str, int | list[int]] | None = None) -> bytes:
    body = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, kind)
    for name, value in (attributes or {}).items():
        if isinstance(value, int):
            attribute = _text(1, name) + _number(3, value) + _number(20, 2)
        else:
            attribute = _text(1, name) + b"".join(_number(8, item) for item in value) + _number(20, 7)
        body += _message(5, attribute)
    return body


def _tensor(name: str, shape: Shape) -> bytes:
    dims = b"".join(_message(1, _number(1, d) if isinstance(d, int) else _text(2, d)) for d in shape)
    return _text(1, name) + _message(2, _message(1, _number(1, 1) + _message(2, dims)))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += struct.pack("B", value & 127 | 128)
        value >>= 7
    return out + struct.pack("B", value)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())
