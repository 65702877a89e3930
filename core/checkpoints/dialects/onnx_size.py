"""A count of the parts of an ONNX file before it is parsed.

An empty part takes 2 bytes in the file and a hundred in memory. So a file of a few megabytes could fill it.
"""

from __future__ import annotations

from ..budget import Budget

# Parts that hold further parts, by the number of their field. See onnx.proto.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "leaf", 14: "leaf", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 15: "sparse", 16: "leaf"},
    "node": {5: "attribute", 9: "leaf"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse",
    },
    "tensor": {13: "leaf", 16: "leaf"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph", 3: "leaf", 4: "leaf"},
    "function": {7: "node", 9: "leaf", 11: "attribute", 12: "value", 14: "leaf"},
    "annotation": {2: "leaf"},
    "value": {2: "type", 4: "leaf"},
    "type": {1: "typed", 4: "element", 5: "map", 8: "typed", 9: "element"},
    "typed": {2: "shape"}, "element": {1: "type"}, "map": {2: "type"}, "shape": {1: "leaf"}, "leaf": {},
}  # fmt: skip


def count_parts(data: bytes, budget: Budget) -> None:
    """Take one operation from the budget for each field of the file. Leave damage to the parser.

    Raises:
        CheckpointError: if the file has more fields than any network needs
    """
    waiting = [("model", 0, len(data))]
    while waiting:
        kind, position, end = waiting.pop()
        parts = _PARTS[kind]
        while position < end:
            budget.spend()
            tag, position = _number(data, position, end)
            wire, field = tag & 7, tag >> 3
            if wire == 0:
                _, position = _number(data, position, end)
            elif wire in (1, 5):
                position += 8 if wire == 1 else 4
            elif wire == 2:
                length, position = _number(data, position, end)
                if field in parts and position + length <= end:
                    waiting.append((parts[field], position, position + length))
                position += length
            elif wire not in (3, 4):  # groups have no length of their own
                break


def _number(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    number = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
    return number, position
