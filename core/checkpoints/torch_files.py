"""Files that torch.save wrote: the zip archive, and the legacy stream of pickles from before torch 1.6.

Every size that such a file claims is compared with the size of the file before anything is read or allocated.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections import deque
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from ..errors import CheckpointError, shortened
from .budget import Budget
from .safe_pickle import PickleError, Storage, TensorView, read_pickle

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_PICKLE, _MAX_MEMBERS = 64 * 2**20, 100_000
_LONGEST_LIST = 4 * 2**20  # bytes of a zip archive's list of members
_LONGEST_END = 2**16 + 22 + 20 + 56  # bytes of what follows the list, with the longest comment
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "generator", "transformer", "params",
)  # fmt: skip
_MAX_WRAPPING, FEWEST_TENSORS = 4, 6
_Archive = tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], str]
AGAIN = "copy or download it again"
_CHUNK = 16 * 2**20  # bytes read at a time


class TorchFile:
    """An open torch file, whose tensors are read on request.

    Args:
        path: the file

    Attributes:
        value: what was saved, with a `TensorView` for each tensor

    Raises:
        CheckpointError: in one line, if the file holds more than tensors and plain values, or is damaged or oversized
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read: dict[str, Tensor] = {}
        self._archive: _Archive | None = None  # of a zip file, with its members, and their folder
        self._places: dict[str, tuple[int, int]] = {}  # first byte and bytes of each storage of a legacy file
        try:
            self._budget = Budget.of(path)
            with self.path.open("rb") as file:
                start = file.read(4)
            self.value = self._open_zip() if start[:2] == b"PK" else self._open_legacy()
        except CheckpointError as error:
            raise CheckpointError(f"{path} cannot be opened safely: {error}") from None
        except MemoryError:
            raise CheckpointError(f"{path} cannot be opened safely: it needs more memory than available") from None
        except zipfile.BadZipFile:
            raise CheckpointError(
                f"{path} cannot be opened safely: it is incomplete, or its list of contents is damaged; {AGAIN}"
            ) from None
        except Exception as error:  # zipfile and pickletools fail on damaged files in many ways
            reason = shortened(str(error)) or type(error).__name__
            raise CheckpointError(f"{path} cannot be opened safely: it is damaged or incomplete ({reason})") from None

    def tensor(self, view: TensorView) -> Tensor:
        """Read the tensor that ``view`` describes; tensors of the same storage share memory.

        Raises:
            CheckpointError: if the tensor claims more than the file holds
        """
        storage = view.storage
        try:
            base = self._read[storage.key]
        except KeyError:
            dtype, data = getattr(torch, storage.dtype), self._bytes_of(storage)
            base = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self._read[storage.key] = base
        reach = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.stride, strict=True)) + 1
        count = 1
        for n in view.shape:
            count *= n
        if base.dtype != getattr(torch, storage.dtype) or storage.start + storage.count > len(base):
            raise CheckpointError(f"{self.path} is damaged: two tensors disagree about their common storage")
        if count and (reach > storage.count or count > storage.count):
            raise CheckpointError(f"{self.path} is damaged: a tensor {view.shape} claims more than its storage holds")
        try:
            self._budget.spend(size=count * base.itemsize)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path} is damaged: {error}") from None
        return base.as_strided(view.shape, view.stride, storage.start + view.offset)

    def _bytes_of(self, storage: Storage) -> bytearray:
        try:
            return self._from_legacy(storage) if self._archive is None else self._from_zip(storage, *self._archive)
        except CheckpointError:
            raise
        except Exception as error:  # zipfile fails on damaged headers in many ways
            reason = shortened(str(error)) or type(error).__name__
            raise CheckpointError(f"{self.path} is damaged ({reason}); copy or download it again") from None

    def _open_zip(self) -> Any:
        _check_list(self.path)
        archive = zipfile.ZipFile(self.path)  # stays open: opening it for each tensor reads the whole list of members
        members = archive.infolist()
        _check_members(members, self.path.stat().st_size)
        names = {member.filename: member for member in members}
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if any("/code/" in name or name.endswith("constants.pkl") for name in names):
            raise CheckpointError(
                "it is a TorchScript archive, which holds a program; in the program that it comes from, save "
                "torch.save(model.state_dict(), FILE) and open that"
            )
        if len(pickles) != 1:
            some = shortened(", ".join(list(names)[:3]), 120) or "nothing"
            raise CheckpointError(f"it is a zip archive of {some}, not a file of torch.save; unpack it first")
        root = pickles[0].removesuffix("data.pkl")
        if root + "byteorder" in names and archive.read(root + "byteorder").strip() != b"little":
            raise CheckpointError("it was written on a big-endian machine; convert it to safetensors there")
        if names[pickles[0]].file_size > _MAX_PICKLE:
            raise CheckpointError(f"its pickle has {names[pickles[0]].file_size} bytes, far more than networks need")
        self._archive = (archive, names, root)
        return read_pickle(io.BytesIO(archive.read(pickles[0])), self._budget)

    def _from_zip(
        self, storage: Storage, archive: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo], root: str
    ) -> bytearray:
        member = names.get(f"{root}data/{storage.key}")
        needed = (storage.start + storage.count) * getattr(torch, storage.dtype).itemsize
        if member is None or member.file_size != needed:
            held = "nothing" if member is None else f"{member.file_size} bytes"
            raise CheckpointError(f"{self.path} is damaged: it holds {held} of a tensor of {needed} bytes")
        with archive.open(member) as file:
            return _read_exactly(file, needed)

    def _open_legacy(self) -> Any:
        # A read from a mapped file never allocates more than the file holds.
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            stream = cast(BinaryIO, mapped)  # it has the methods that pickletools calls
            first = read_pickle(stream, self._budget)
            if type(first) is not int or first != _LEGACY_MAGIC:
                raise PickleError(f"it is a pickle of {type(first).__name__}, not a file of torch.save")
            if read_pickle(stream, self._budget) != _LEGACY_PROTOCOL:
                raise PickleError("it has an unknown version of torch's format")
            system = read_pickle(stream, self._budget)
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise PickleError("it was written on a big-endian machine; convert it to safetensors there")
            value, keys = read_pickle(stream, self._budget), read_pickle(stream, self._budget)
            places = stream.tell()
        if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
            raise PickleError("its list of storages is damaged")
        return self._index_legacy(value, [str(key) for key in keys], places)

    def _index_legacy(self, value: Any, keys: list[str], position: int) -> Any:
        """Find the storages: after the pickles, in the order of ``keys``, each preceded by its number of elements."""
        itemsizes: dict[str, int] = {}
        for view in views(value):
            itemsizes[view.storage.key] = getattr(torch, view.storage.dtype).itemsize
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            for key in keys:
                file.seek(position)
                header = file.read(8)
                if len(header) < 8:
                    raise CheckpointError(
                        f"it is incomplete: {len(keys) - len(self._places)} of {len(keys)} tensors are missing; {AGAIN}"
                    )
                if key not in itemsizes:
                    raise CheckpointError("one of its storages belongs to no tensor")
                (count,) = struct.unpack("<q", header)
                bytes_ = count * itemsizes[key]
                if count < 0 or position + 8 + bytes_ > size:
                    raise CheckpointError(
                        f"it is incomplete: a tensor of {bytes_} bytes does not fit into its {size} bytes; {AGAIN}"
                    )
                self._places[key] = (position + 8, bytes_)
                position += 8 + bytes_
        return value

    def _from_legacy(self, storage: Storage) -> bytearray:
        start, length = self._places.get(storage.key, (0, -1))
        needed = (storage.start + storage.count) * getattr(torch, storage.dtype).itemsize
        if length < needed:
            raise CheckpointError(f"{self.path} is damaged: a tensor claims {needed} bytes of {max(length, 0)}")
        with self.path.open("rb") as file:
            file.seek(start)
            return _read_exactly(file, length)


def _read_exactly(file: IO[bytes], size: int) -> bytearray:
    """Return ``size`` bytes in memory that a tensor can take over."""
    data = bytearray(size)
    filled = 0
    while filled < size:
        part = file.read(min(_CHUNK, size - filled))
        if not part:
            raise EOFError("it ends early")
        data[filled : filled + len(part)] = part
        filled += len(part)
    file.read(1)  # at its end, a zip member's checksum is compared
    return data


def views(value: Any) -> list[TensorView]:
    """Return every tensor anywhere in ``value``, visiting each object once."""
    found, seen, waiting = [], set(), [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, TensorView):
            found.append(item)
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item
    return found


def states_in(value: Any) -> list[dict[str, Any]]:
    """Return the dicts of tensors in what was saved, likely ones first, without those of optimizers.

    If no dict has as many tensors as a network, those with fewer are returned.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    waiting = deque([(value, 0, 0)])
    seen: set[int] = set()
    while waiting:
        item, depth, rank = waiting.popleft()
        if not isinstance(item, dict) or id(item) in seen or depth > _MAX_WRAPPING:
            continue
        seen.add(id(item))
        tensors = {key: view for key, view in item.items() if isinstance(key, str) and isinstance(view, TensorView)}
        if tensors:
            found.append((rank, tensors))
        for key, inner in item.items():
            if isinstance(inner, dict) and not str(key).lower().startswith("optim"):
                waiting.append((inner, depth + 1, _WRAPPERS.index(key) if key in _WRAPPERS else len(_WRAPPERS)))
    networks = [each for each in found if len(each[1]) >= FEWEST_TENSORS]
    return [tensors for _, tensors in sorted(networks or found, key=lambda pair: pair[0])][:20]


def _check_list(path: Path) -> None:
    """Raise CheckpointError if the list of a zip archive's members is too long to be read in a second."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _LONGEST_END))
        end = file.read()
    place = end.rfind(b"PK\x05\x06")
    if place < 0 or len(end) < place + 16:
        return  # zipfile says what is wrong
    (length,) = struct.unpack_from("<I", end, place + 12)
    large = end.rfind(b"PK\x06\x06", 0, place)
    if large >= 0 and len(end) >= large + 48:  # the list of an archive of the 64-bit kind
        length = max(length % (2**32 - 1), *struct.unpack_from("<Q", end, large + 40))
    if length > _LONGEST_LIST:
        raise CheckpointError(f"its list of contents has {length} bytes, far more than networks need")


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > _MAX_MEMBERS:
        raise CheckpointError(f"it is a zip archive of {len(members)} members, far more than networks need")
    if any(member.flag_bits & 1 for member in members):
        raise CheckpointError("it is an encrypted zip archive")
    total = sum(member.file_size for member in members)
    if total > size:  # torch stores, never compresses
        raise CheckpointError(
            f"it is a zip archive that claims {total} bytes in a file of {size}; torch does not write such files"
        )
