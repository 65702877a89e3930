"""Parts of a file on the Hub: byte ranges over HTTP, and single tensors of a safetensors file."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import HubError
from .patience import Patience

_START = 2**13  # bytes of the first request, enough for an ordinary header
_LARGEST_HEADER = 2**23
_ATTEMPTS = 5  # failures in a row, without a byte received, before giving up
_PAUSE = 0.5  # seconds to wait after the first failure in a row
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


class RangesRefused(Exception):
    """An error for a server that sends only whole files."""


class RemoteFile:
    """A file on the Hub, read in byte ranges.

    Args:
        url: Address of the file.
        report: Called with the bytes received so far after each chunk.
        patience: Waits when the server is busy.

    Attributes:
        url: Address of the file.
        bytes_read: Bytes received so far, over all calls. ``report`` is called with it after each chunk.
    """

    def __init__(self, url: str, report: Callable[[int], None] | None = None, patience: Patience | None = None) -> None:
        self.url, self.bytes_read = url, 0
        self._report, self._patience = report, patience or Patience()

    def copy(self, write: Callable[[bytes], Any], start: int, end: int) -> None:
        """Pass bytes ``start`` to ``end`` to ``write``. Resume if the connection breaks off.

        Raises:
            RangesRefused: If the server sends only whole files. Never for a range from the file's beginning to its end.
            EOFError: If the file is shorter.
            Exception: Any error of huggingface_hub or ``report``.
        """
        failures = 0
        while start < end:
            before = start
            try:
                for chunk in _chunks(self.url, start, end):
                    write(chunk)
                    start += len(chunk)
                    self.bytes_read += len(chunk)
                    if self._report is not None:
                        self._report(self.bytes_read)
            except Exception as error:
                if self._patience.waits(error):
                    continue
                if not _broke_off(error):
                    raise
                failures = 1 if start > before else failures + 1
                if failures >= _ATTEMPTS:
                    raise
                time.sleep(_PAUSE * failures)
            else:
                if start == before:
                    raise EOFError(f"the file ends before byte {end}")

    def read(self, start: int, end: int) -> bytearray:
        """Return bytes ``start`` to ``end``. Errors as for `copy`."""
        data = bytearray()
        self.copy(data.extend, start, end)
        return data


def _broke_off(error: Exception) -> bool:
    """Return whether the connection failed and can be retried. Answers of the server and callers' errors are final."""
    library = type(error).__module__.split(".")[0]
    if library == "huggingface_hub":
        return False
    return library in ("httpx", "httpx2", "requests", "urllib3") or isinstance(error, ConnectionError)


def _chunks(url: str, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of one request: the whole range, or the part received before the connection ended."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = {**build_hf_headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    session: Any = get_session()
    options = {"headers": headers, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    if callable(getattr(session, "stream", None)):  # httpx; huggingface_hub before version 1 uses requests
        context = session.stream("GET", url, follow_redirects=True, **options)
    else:
        context = contextlib.closing(session.get(url, stream=True, **options))
    with context as answer:
        hf_raise_for_status(answer)
        partial = answer.status_code == 206
        if partial and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise RangesRefused
        length = answer.headers.get("Content-Length", "")
        if not partial and (start > 0 or (length.isdecimal() and int(length) > end)):
            raise RangesRefused
        for chunk in answer.iter_bytes() if hasattr(answer, "iter_bytes") else answer.iter_content(2**16):
            start += len(chunk)
            if start > end:
                raise RangesRefused
            yield chunk


class RemoteTensors:
    """Tensors of a remote safetensors file.

    Attributes:
        file: The remote file.
        base: Byte at which the tensors begin, after the header.
        places: dtype, shape, first and last byte after ``base`` of each tensor, by name.
    """

    def __init__(self, file: RemoteFile, size: int | None) -> None:
        """Read the header.

        Args:
            file: The remote file.
            size: Its size in bytes, if known.

        Raises:
            HubError: If it is not a valid safetensors file.
        """
        self.file = file
        start = file.read(0, min(_START, size or _START))
        length = int.from_bytes(start[:8], "little")
        if b"<html" in start[:1024].lower() or start.lstrip()[:9].lower() == b"<!doctype":
            raise HubError(
                f"{file.url} is not a safetensors file but a web page, perhaps that of a proxy that wants you to log in; check "
                f"the connection and try again"
            )
        if not 2 <= length <= _LARGEST_HEADER or start[8:9] != b"{":
            raise HubError(f"{file.url} is not a safetensors file; update this package")
        self.base = 8 + length
        start += file.read(len(start), self.base) if len(start) < self.base else b""
        try:
            header = json.loads(start[8 : self.base])
            self.places = {name: self._place(value) for name, value in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HubError(f"{file.url} has an unreadable safetensors header ({error!r:.80})") from None
        ends = [end for _, _, _, end in self.places.values()]
        if size is not None and ends and self.base + max(ends) != size:
            raise HubError(f"{file.url} has {size} bytes, but its header describes {self.base + max(ends)}")

    @staticmethod
    def _place(value: dict[str, Any]) -> tuple[str, list[int], int, int]:
        (begin, end), shape, dtype = value["data_offsets"], value["shape"], value["dtype"]
        if not 0 <= begin <= end or not all(isinstance(n, int) and n >= 0 for n in (begin, end, *shape)):
            raise ValueError("offsets")
        if dtype in _DTYPES and end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
            raise ValueError("sizes")
        return dtype, shape, begin, end

    def bytes_of(self, names: Iterable[str]) -> int:
        """Return the number of bytes of these tensors."""
        return sum(self.places[name][3] - self.places[name][2] for name in names)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return these tensors, with one request for each run of neighbors in the file.

        Raises:
            HubError: If a dtype is not supported.
        """
        wanted = sorted(names, key=lambda name: self.places[name][2])
        tensors: dict[str, Tensor] = {}
        while wanted:
            run = [wanted.pop(0)]
            while wanted and self.places[wanted[0]][2] == self.places[run[-1]][3]:
                run.append(wanted.pop(0))
            first, last = self.places[run[0]][2], self.places[run[-1]][3]
            data = self.file.read(self.base + first, self.base + last)
            for name in run:
                dtype, shape, begin, end = self.places[name]
                if dtype not in _DTYPES:
                    raise HubError(f"{self.file.url} has {name} as {dtype}; expected {', '.join(_DTYPES)}")
                values = torch.frombuffer(data[begin - first : end - first], dtype=_DTYPES[dtype])
                tensors[name] = values.reshape(shape)
        return tensors
