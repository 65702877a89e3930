"""A reader of pickles that only builds plain values and descriptions of tensors, and never calls anything in them.

``torch.load(weights_only=True)`` is as safe against code, but allocates what a file claims. Examples with torch 2.14:

- A legacy file of 344 bytes whose storage claims 2**31 float32 elements: 8 GiB are allocated before "unexpected EOF".
- A zip archive of 1 MB whose storage is 1 GiB of compressed zeros: it is loaded, although torch never compresses.

Here, the standard library's ``pickletools`` decodes the operations of a pickle, which only push and pop plain values.
The few functions that torch writes into its files are names listed below.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import CheckpointError, listed, shortened
from .budget import Budget

_MAX_NAME = 1000  # characters of a global or a key: comparing long ones again and again takes minutes
_MAX_BITS = 1024  # of an integer, likewise; torch's own magic number has 80
_MAX_VIEW = 8  # dimensions of a tensor, and items of a reference to a storage
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
}  # fmt: skip
_DTYPES = {f"torch.{name}" for name in _STORAGES.values()}
_PLAIN_KEYS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Storage:
    """A part of a storage in the file.

    Attributes:
        dtype: name of the number format, such as float32
        key: name of the storage
        count: number of elements
        start: first element
    """

    dtype: str
    key: str
    count: int
    start: int = 0


@dataclass(frozen=True)
class TensorView:
    """A description of a tensor, with the sizes that the file claims.

    Attributes:
        storage: where the elements are
        offset: first element, counted from the start of ``storage``
        shape: sides
        stride: in elements, one for each side
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Opaque:
    """A stand-in for the result of an unknown function, so that the rest of the file can be read and named."""


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names; never imported."""

    text: str


class PickleError(CheckpointError):
    """A pickle that is damaged or holds more than tensors. The caller adds the file's name."""


def read_pickle(stream: BinaryIO, budget: Budget) -> Any:
    """Read the pickle at the stream's position, which then is after it.

    Args:
        stream: the file
        budget: what reading the file may still take

    Returns:
        The value, with tensors as `TensorView` and dicts of any kind as dict.

    Raises:
        PickleError: in one line that names every global that does not belong to plain tensors
    """
    reader = _Reader(budget)
    failure = None
    try:
        value = reader.run(stream)
    except Exception as error:  # damaged opcodes fail in many ways; only the reason matters
        failure = error
    if reader.foreign:
        raise PickleError(_refusal(sorted(reader.foreign)))
    if failure is not None:
        reason = str(failure) if isinstance(failure, CheckpointError) else f"{type(failure).__name__}: {failure}"
        raise PickleError(f"its pickle is damaged or not torch's ({shortened(reason, 400)})")
    return value


def _refusal(names: list[str]) -> str:
    shown = listed([name[:60] for name in names], 6)
    return (
        f"it holds more than tensors and plain values: {shortened(shown, 400)}. Nothing in it was run. In the program that it "
        "comes from, save torch.save(model.state_dict(), FILE) and open that"
    )


class _Reader:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.foreign: set[str] = set()
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            self.budget.spend()
            if opcode.name == "STOP":
                return self.stack.pop()
            handle = _OPERATIONS.get(opcode.name)
            if handle is None:
                raise PickleError(f"the operation {opcode.name}")
            handle(self, argument)
        raise PickleError("it has no end")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def integer(self, value: int) -> None:
        if value.bit_length() > _MAX_BITS:
            raise PickleError(f"an integer of {value.bit_length()} bits")
        self.push(value)

    def name(self, text: str) -> None:
        if len(text) > _MAX_NAME:
            raise PickleError(f"a name of {len(text)} characters")
        if text not in _KNOWN:
            self.foreign.add(text)
        self.push(_Name(text))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        plain = isinstance(name, str) and isinstance(module, str) and len(name) + len(module) < _MAX_NAME
        self.name(f"{module}.{name}" if plain else "a computed name")

    def pop_tuple(self, length: int) -> None:
        items = self.stack[-length:]
        if len(items) != length:
            raise PickleError("a tuple of more items than there are")
        self.stack[-length:] = [tuple(items)]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value
        elif not isinstance(target, Opaque):
            raise PickleError(f"items set on {type(target).__name__}")

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise PickleError(f"items appended to {type(target).__name__}")

    def to_dict(self) -> None:
        items = self.to_mark()
        self.push({})
        self.set_items(items)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.push(_call(function, arguments, self.budget))

    def inst(self, text: str) -> None:
        self.name(text)
        self.to_mark()
        self.push(Opaque())

    def obj(self) -> None:
        self.to_mark()
        self.push(Opaque())

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.to_mark()

    def build(self) -> None:
        self.stack.pop()  # attributes of an OrderedDict or a parameter, such as _metadata, are not needed

    def persistent(self) -> None:
        self.push(_storage(self.stack.pop()))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _key(key: Any) -> Any:
    """Return a key of a dict. Nested tuples could be hashed until the stack overflows."""
    if not isinstance(key, _PLAIN_KEYS):
        raise PickleError(f"a key of type {type(key).__name__}")
    if isinstance(key, str) and len(key) > _MAX_NAME:
        raise PickleError(f"a key of {len(key)} characters")
    return key


def _call(function: Any, arguments: Any, budget: Budget) -> Any:
    text = function.text if isinstance(function, _Name) else ""
    if text not in _KNOWN or not isinstance(arguments, tuple):
        return Opaque()
    if text == "collections.OrderedDict":
        pairs = arguments[0] if arguments else []
        if not isinstance(pairs, (list, tuple)):
            raise PickleError(f"a dict made of a {type(pairs).__name__}")
        budget.spend(len(pairs))  # the file may make thousands of dicts of the same list
        result: dict[Any, Any] = {}
        for key, value in pairs:
            result[_key(key)] = value
        return result
    if text in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return _tensor(*arguments[:4])
    if text.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]
    if text == "torch._tensor._rebuild_from_type_v2":
        return _call(arguments[0], arguments[2], budget)
    return str(arguments[0]) if text == "torch.device" and isinstance(arguments[0], str) else arguments


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorView:
    if max(len(shape), len(stride)) > _MAX_VIEW:
        raise PickleError("a tensor of impossible sizes")
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise PickleError("a tensor of impossible sizes")
    if len(shape) != len(stride):
        raise PickleError("a tensor with sizes and strides of different length")
    return TensorView(storage, offset, tuple(shape), tuple(stride))


def _storage(reference: Any) -> Any:
    """Return the storage of a persistent reference.

    It is ('storage', type, key, location, count) in zip files. Legacy files add (view's key, start, count) or None.
    """
    if not isinstance(reference, tuple) or not 2 <= len(reference) <= _MAX_VIEW:
        raise PickleError("a reference to something unknown")
    if reference[0] == "module":
        return reference[1]  # a whole module; its class is among the names found
    tag, kind, key, _location, count, *view = reference
    dtype = _KNOWN.get(kind.text) if isinstance(kind, _Name) else None
    if tag != "storage" or not dtype or not isinstance(key, (str, int)) or type(count) is not int or count < 0:
        raise PickleError("a reference to something other than a storage")
    if view and view[0] is not None:
        _, start, count = view[0]
        if type(start) is not int or type(count) is not int or start < 0 or count < 0:
            raise PickleError("a storage of impossible sizes")
        return Storage(dtype, str(key), count, start)
    return Storage(dtype, str(key), count)


#: every global that a file of plain tensors names, with the dtype if it is a storage
_KNOWN: dict[str, str] = {
    **{f"torch.{kind}Storage": dtype for kind, dtype in _STORAGES.items()},
    **{f"torch.cuda.{kind}Storage": dtype for kind, dtype in _STORAGES.items()},
    **dict.fromkeys(_DTYPES, ""),
    **dict.fromkeys(
        ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor",
         "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
         "torch._tensor._rebuild_from_type_v2", "torch.nn.parameter.Parameter", "torch.Tensor", "torch.Size",
         "torch.device"), "",
    ),
}  # fmt: skip


def _pushes(make: Callable[[Any], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, argument: reader.push(make(argument))


_OPERATIONS: dict[str, Callable[[_Reader, Any], object]] = {
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
         "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        lambda reader, argument: reader.push(argument),
    ),
    **dict.fromkeys(("LONG", "LONG1", "LONG4"), lambda reader, argument: reader.integer(argument)),
    **dict.fromkeys(("PROTO", "FRAME"), lambda reader, argument: None),
    "NONE": _pushes(lambda _: None), "NEWTRUE": _pushes(lambda _: True), "NEWFALSE": _pushes(lambda _: False),
    "EMPTY_LIST": _pushes(lambda _: []), "EMPTY_TUPLE": _pushes(lambda _: ()), "EMPTY_DICT": _pushes(lambda _: {}),
    "MARK": lambda reader, _: reader.mark(),
    "POP": lambda reader, _: reader.pop(),
    "POP_MARK": lambda reader, _: reader.to_mark(),
    "DUP": lambda reader, _: reader.push(reader.stack[-1]),
    "APPEND": lambda reader, _: reader.extend([reader.stack.pop()]),
    "APPENDS": lambda reader, _: reader.extend(reader.to_mark()),
    "LIST": lambda reader, _: reader.push(reader.to_mark()),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.to_mark())),
    "TUPLE1": lambda reader, _: reader.pop_tuple(1),
    "TUPLE2": lambda reader, _: reader.pop_tuple(2),
    "TUPLE3": lambda reader, _: reader.pop_tuple(3),
    "DICT": lambda reader, _: reader.to_dict(),
    "SETITEM": lambda reader, _: reader.set_items([reader.stack.pop(), reader.stack.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.set_items(reader.to_mark()),
    "PUT": lambda reader, index: reader.put(index), "BINPUT": lambda reader, index: reader.put(index),
    "LONG_BINPUT": lambda reader, index: reader.put(index),
    "MEMOIZE": lambda reader, _: reader.put(len(reader.memo)),
    "GET": lambda reader, index: reader.push(reader.memo[index]),
    "BINGET": lambda reader, index: reader.push(reader.memo[index]),
    "LONG_BINGET": lambda reader, index: reader.push(reader.memo[index]),
    "GLOBAL": lambda reader, text: reader.name(".".join(text.split(" "))),
    "INST": lambda reader, text: reader.inst(".".join(text.split(" "))),
    "OBJ": lambda reader, _: reader.obj(),
    "STACK_GLOBAL": lambda reader, _: reader.stack_global(),
    "REDUCE": lambda reader, _: reader.reduce(),
    "NEWOBJ": lambda reader, _: reader.reduce(),
    "BUILD": lambda reader, _: reader.build(),
    "BINPERSID": lambda reader, _: reader.persistent(),
}  # fmt: skip
