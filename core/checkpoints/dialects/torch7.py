"""A reader of Torch7's binary files (.t7) that builds only numbers, strings, tables and tensors.

The readers on PyPI have not been maintained for years. They follow nesting as deep as a file claims, and allocate what
it claims. The format is small. An object starts with its type (int32), followed by its content:

- 0 nil
- 1 number: float64
- 2 string: int32 length, bytes
- 3 table: int32 index; the first time, also an int32 count and that many keys and values
- 4 torch object: int32 index; the first time, also its version and class as strings, and its content
- 5 boolean: int32
- 6 to 8 functions, which are rejected

Everything is little-endian, and sizes are int64. See torch7's File.lua, Tensor.c and Storage.c.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, shortened
from ..budget import Budget

_DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "Long": torch.int64, "Int": torch.int32,
    "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
}  # fmt: skip
_MAX_DEPTH, _MAX_NAME = 100, 1000
Table = dict[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Module:
    """A torch object other than a tensor.

    Tables and modules can share their parts. Written out or compared, a file of 1 kB would fill the memory: look only at
    single values, numbers with `number`.

    Attributes:
        kind: its class
        fields: its fields by name
    """

    kind: str
    fields: Table

    def number(self, field: str, default: float | None = None) -> float:
        """Return a field that must be a number. Raise CheckpointError if it is something else, or missing."""
        value = self.fields.get(field, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise CheckpointError(f"the {field} of a {shortened(self.kind, 60)!r} is not a number")
        return value


def read_torch7(path: str | Path) -> Any:
    """Read the object in a .t7 file.

    Returns:
        Tables as dict, tensors as Tensor, other torch objects as `Module`.

    Raises:
        CheckpointError: in one line, if the file is damaged or holds something else
    """
    try:
        budget = Budget.of(path)
        data = Path(path).read_bytes()
        return _Reader(memoryview(data), budget).read(0)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be opened: {error}") from None
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'out of memory'}") from None
    except Exception as error:  # damaged data end in struct.error, KeyError, RuntimeError, ...
        reason = shortened(str(error))
        raise CheckpointError(f"{path} is a damaged or incomplete .t7 file ({reason})") from None


class _Reader:
    def __init__(self, data: memoryview, budget: Budget) -> None:
        self.data, self.position, self.budget = data, 0, budget
        self.objects: dict[int, Any] = {}

    def take(self, size: int) -> memoryview:
        if size < 0 or self.position + size > len(self.data):
            raise CheckpointError(
                f"it is incomplete (cut off or damaged): {size} bytes claimed at {self.position} of {len(self.data)}"
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def int32(self) -> int:
        return struct.unpack("<i", self.take(4))[0]

    def longs(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.take(8 * count))

    def string(self) -> str:
        return bytes(self.take(self.int32())).decode("latin-1")

    def read(self, depth: int) -> Any:
        self.budget.spend()
        if depth > _MAX_DEPTH:
            raise CheckpointError("it is nested deeper than any network")
        kind = self.int32()
        if kind == 0:
            return None
        if kind == 1:
            return struct.unpack("<d", self.take(8))[0]
        if kind == 2:
            return self.string()
        if kind == 5:
            return self.int32() == 1
        if kind not in (3, 4):
            what = "a Lua function" if kind in (6, 7, 8) else f"an object of unknown type {kind}"
            raise CheckpointError(f"it holds {what}; save the network without it (model:clearState(), torch.save)")
        index = self.int32()
        if index in self.objects:
            return self.objects[index]
        return self.table(index, depth) if kind == 3 else self.torch_object(index, depth)

    def table(self, index: int, depth: int) -> Table:
        table = self.objects[index] = {}
        self.fill(table, depth)
        return table

    def fill(self, table: Table, depth: int) -> None:
        for _ in range(self.int32()):
            key = self.read(depth + 1)
            value = self.read(depth + 1)
            if not isinstance(key, (str, float, bool)):
                raise CheckpointError(f"a table has a key of type {type(key).__name__}")
            if isinstance(key, str) and len(key) > _MAX_NAME:
                raise CheckpointError(f"a table has a key of {len(key)} characters")
            table[key] = value

    def torch_object(self, index: int, depth: int) -> Any:
        name = self.string()
        if name.startswith("V "):
            name = self.string()
        match = re.fullmatch(r"torch\.(Cuda)?([A-Z][a-z]*)?(Tensor|Storage)", name)
        if match:
            dtype = _DTYPES.get(match[2] or "Float")
            if dtype is None:
                raise CheckpointError(f"it holds a {shortened(name, 60)}, which is not supported")
            return self.storage(index, dtype) if match[3] == "Storage" else self.tensor(index, dtype, depth)
        module = self.objects[index] = Module(name, {})
        if self.int32() != 3:
            raise CheckpointError(f"it holds a {shortened(name, 60)!r}, which is not a module of tables and tensors")
        fields = self.int32()
        if fields in self.objects:
            raise CheckpointError(f"the fields of a {shortened(name, 60)!r} are shared with something else")
        self.objects[fields] = module.fields
        self.fill(module.fields, depth)
        return module

    def storage(self, index: int, dtype: torch.dtype) -> Tensor:
        (size,) = self.longs(1)
        data = self.take(size * dtype.itemsize)
        self.objects[index] = torch.frombuffer(bytearray(data), dtype=dtype) if size else torch.empty(0, dtype=dtype)
        return self.objects[index]

    def tensor(self, index: int, dtype: torch.dtype, depth: int) -> Tensor:
        dimensions = self.int32()
        if not 0 <= dimensions <= 8:
            raise CheckpointError(f"a tensor claims {dimensions} dimensions")
        shape, stride = self.longs(dimensions), self.longs(dimensions)
        (offset,) = self.longs(1)
        storage = self.read(depth + 1)
        if storage is None or not dimensions:
            tensor = torch.empty(0, dtype=dtype)
        elif not isinstance(storage, Tensor) or storage.dtype != dtype or min(shape) < 1 or min(stride) < 0:
            raise CheckpointError("a tensor has no usable storage")
        else:
            last = offset - 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
            if offset < 1 or last >= len(storage) or math.prod(shape) > len(storage):
                raise CheckpointError(f"a tensor {shape} claims more than its storage of {len(storage)} holds")
            tensor = storage.as_strided(shape, stride, offset - 1)
        self.objects[index] = tensor
        return tensor
