"""Small files that claim much: nested metadata, repeated containers, shared tables, graphs that compute large constants.

Each function returns the bytes of one file. Opening one must end in one line, in seconds, and in little memory.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable

from foreign_containers import Torch7Writer


def safetensors(metadata: dict[str, str]) -> bytes:
    """Return a safetensors file of one tensor with this metadata."""
    header = {"__metadata__": metadata, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


def nested_metadata(depth: int = 100_000, value: str = "[]") -> bytes:
    """Return a safetensors file whose metadata of this project nest ``depth`` times, in ``styles`` if that is shallow."""
    nested = value[0] * depth + value[1] * depth
    text = nested if depth > 5000 else f'{{"format": 1, "task": "style", "arch": "c3s1-3", "styles": {nested}}}'
    return safetensors({"perceptual_style": text})


def many_tensors(count: int = 150_000) -> bytes:
    """Return a safetensors file of so many empty tensors."""
    tensors = (f'"t{n}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}' for n in range(count))
    text = ("{" + ", ".join(tensors) + "}").encode()
    return struct.pack("<Q", len(text)) + text


def many_styles(count: int = 200_000) -> bytes:
    """Return a safetensors file whose metadata name far more styles than a network can have."""
    header = {"format": 1, "task": "style", "styles": [{"name": str(n)} for n in range(count)]}
    return safetensors({"perceptual_style": json.dumps(header)})


def repeated_dicts(pairs: int = 30_000, copies: int = 100_000) -> bytes:
    """Return a pickle that makes ``copies`` OrderedDicts of one list of pairs."""
    listed = b"]q\x00(" + b"".join(b"K\x01K" + bytes([n % 256]) + b"\x86" for n in range(pairs)) + b"e0"
    return b"\x80\x02" + listed + b"](" + b"ccollections\nOrderedDict\nh\x00\x85R" * copies + b"e."


def long_keys(length: int = 5_000_000, uses: int = 100_000) -> bytes:
    """Return a pickle that compares two equal long keys again and again."""
    text = b"X" + struct.pack("<I", length) + b"a" * length
    return b"\x80\x02" + text + b"q\x000" + text + b"q\x010}" + b"h\x00Nsh\x01Ns" * uses + b"."


def long_integers(size: int = 1_000_000, uses: int = 100_000) -> bytes:
    """Return a pickle that hashes one long integer again and again."""
    return b"\x80\x02\x8b" + struct.pack("<I", size) + b"\x7f" * size + b"q\x000}" + b"h\x00Ns" * uses + b"."


def long_names(length: int = 5_000_000, uses: int = 100_000) -> bytes:
    """Return a pickle that joins long names of globals again and again."""
    text = b"X" + struct.pack("<I", length) + b"a" * length
    return b"\x80\x04" + text + b"\x94" + b"h\x00h\x00\x930" * uses + b"N."


def long_shapes(length: int = 100_000, uses: int = 60_000) -> bytes:
    """Return a pickle that makes tensors with the same shape of 100,000 sides again and again."""
    shape = b"(" + b"K\x01" * length + b"tq\x000"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x00h\x00tR0"
    return b"\x80\x02" + shape + tensor * uses + b"N."


def shared_tables(depth: int = 60, place: str = "preprocessing") -> bytes:
    """Return a .t7 file with a table that, written out, has 2^depth parts."""
    writer = Torch7Writer()
    model = ("nn.Sequential", {"modules": {1: ("nn.SpatialReflectionPadding", {f"pad_{side}": 0 for side in "lrtb"})}})
    if place == "preprocessing":
        writer.data += struct.pack("<iii", 3, writer.number(), 2)
        writer.write("model").write(model).write("opt")
        writer.data += struct.pack("<iii", 3, writer.number(), 1)
        writer.write("preprocessing")
        _shared(writer, depth)
        return bytes(writer.data)
    # two such tables as numbers of a module: comparing them takes 2^depth steps
    writer.data += struct.pack("<ii", 4, writer.number()) + writer.text("V 1") + writer.text("nn.Sequential")
    writer.data += struct.pack("<iii", 3, writer.number(), 1)
    writer.write("modules")
    writer.data += struct.pack("<iii", 3, writer.number(), 1)
    writer.write(1)
    writer.data += (
        struct.pack("<ii", 4, writer.number()) + writer.text("V 1") + writer.text("nn.SpatialReflectionPadding")
    )
    writer.data += struct.pack("<iii", 3, writer.number(), 4)
    for side in "lrtb":
        writer.write(f"pad_{side}")
        _shared(writer, depth)
    return bytes(writer.data)


def _shared(writer: Torch7Writer, depth: int) -> None:
    """Write a table whose two parts are the same table, and so on."""
    writer.data += struct.pack("<iii", 3, writer.number(), 2 if depth else 0)
    if depth:
        writer.write(1)
        inner = writer.index + 1
        _shared(writer, depth - 1)
        writer.write(2)
        writer.data += struct.pack("<ii", 3, inner)


def onnx_graph(nodes: list, weights: dict[str, object] | None = None) -> bytes:
    """Return an ONNX file with these nodes, from ``image`` to ``result``."""
    from onnx import TensorProto, helper, numpy_helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", "result")]
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    return helper.make_model(helper.make_graph(nodes, "net", values[:1], values[1:], tensors)).SerializeToString()


def many_constants(count: int = 1000) -> bytes:
    """Return an ONNX file with ``count`` constants of 64 x 64 x 64 x 64."""
    import numpy as np
    from onnx import helper

    nodes = [helper.make_node("ConstantOfShape", ["shape"], [f"c{n}"]) for n in range(count)]
    return onnx_graph(nodes, {"shape": np.array([64] * 4)})


def joined_constants(count: int = 10_000) -> bytes:
    """Return an ONNX file that joins constants ``count`` times."""
    import numpy as np
    from onnx import helper

    nodes = [helper.make_node("Concat", ["part"] * 4, [f"c{n}"], axis=0) for n in range(count)]
    return onnx_graph(nodes, {"part": np.zeros(2**14)})


def shared_weights(count: int = 5000) -> bytes:
    """Return an ONNX file whose ``count`` convolutions share one large weight."""
    import numpy as np
    from onnx import helper

    nodes, current = [], "image"
    for n in range(count):
        nodes += [
            helper.make_node("Conv", [current, "w"], [f"v{n}"], pads=[1] * 4),
            helper.make_node("Relu", [f"v{n}"], [f"r{n}"]),
        ]
        current = f"r{n}"
    return onnx_graph(nodes, {"w": np.zeros((300, 300, 3, 3), np.float32)})


def many_convolutions(count: int = 20_000) -> bytes:
    """Return an ONNX file of so many tiny layers that a search through the graph from each of them takes minutes."""
    import numpy as np
    from onnx import helper

    nodes, current = [], "image"
    for n in range(count):
        nodes += [
            helper.make_node("Conv", [current, "w"], [f"v{n}"]),
            helper.make_node("Relu", [f"v{n}"], [f"r{n}"]),
        ]
        current = f"r{n}"
    return onnx_graph(nodes, {"w": np.zeros((3, 3, 1, 1), np.float32)})


def empty_nodes(count: int = 3_000_000) -> bytes:
    """Return an ONNX file of ``count`` empty nodes, each of 2 bytes."""
    graph = b"\x0a\x00" * count
    size, length = len(graph), b""
    while size > 127:
        length, size = length + bytes([size % 128 | 128]), size // 128
    return b"\x08\x07\x3a" + length + bytes([size]) + graph


def repeated_module(count: int = 30_000) -> bytes:
    """Return a .t7 file with ``count`` references to one module."""
    writer = Torch7Writer()
    writer.data += struct.pack("<ii", 4, writer.number()) + writer.text("V 1") + writer.text("nn.Sequential")
    writer.data += struct.pack("<iii", 3, writer.number(), 1)
    writer.write("modules")
    writer.data += struct.pack("<iii", 3, writer.number(), count)
    writer.write(1)
    place = writer.index + 1
    writer.write(("nn.ReLU", {}))
    for n in range(2, count + 1):
        writer.write(n)
        writer.data += struct.pack("<ii", 4, place)
    return bytes(writer.data)


def many_members(count: int = 1_000_000, pickled: bytes = b"N.") -> bytes:
    """Return a zip archive that lists ``count`` empty members beside a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    content = out.getvalue()
    end = content.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", content, end + 16)[0]
    empty = b"PK\x01\x02\x14\x00\x14\x00" + bytes(20) + struct.pack("<H", 1) + bytes(16) + b"x"
    members = content[start:end] + empty * count
    return content[:start] + members + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(members), start, 0)


def many_dicts(count: int = 100_000) -> bytes:
    """Return a pickle of a dict of many dicts."""
    return pickle.dumps({str(n): {} for n in range(count)}, 2)


#: every kind, by name: one file of the size that did harm
KINDS: dict[str, Callable[[], bytes]] = {
    "nested lists in metadata.safetensors": nested_metadata,
    "nested objects in metadata.safetensors": lambda: nested_metadata(900),
    "many styles.safetensors": many_styles,
    "many tensors.safetensors": many_tensors,
    "large header.safetensors": lambda: many_tensors(300_000),
    "repeated dicts.pth": repeated_dicts,
    "long keys.pth": long_keys,
    "long integers.pth": long_integers,
    "long names.pth": long_names,
    "long shapes.pth": long_shapes,
    "many dicts.pth": many_dicts,
    "many members.pth": many_members,
    "shared tables.t7": shared_tables,
    "compared tables.t7": lambda: shared_tables(place="sides"),
    "repeated module.t7": repeated_module,
    "many constants.onnx": many_constants,
    "joined constants.onnx": joined_constants,
    "shared weights.onnx": shared_weights,
    "many convolutions.onnx": many_convolutions,
    "empty nodes.onnx": empty_nodes,
}
