"""The files of onnxruntime-web, which runs networks in a browser: from a folder of the user's, or downloaded by name."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from ..errors import HubError, InputError
from ..files import atomic_write
from ..hub.places import check_room, own_folder
from ..progress import Progress, ProgressCallback

NAME, VERSION = "onnxruntime-web", "1.30.0"
#: The files that a page needs: a script that includes its loader, and the WebAssembly for both WebGPU and CPUs
FILES = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
URL = f"https://registry.npmjs.org/{NAME}/-/{NAME}-{VERSION}.tgz"
SIZE = 33_106_585  # bytes of the package
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_TIMEOUT, _CHUNK = 30, 2**16


def runtime_files(folder: str | Path | None = None) -> list[Path]:
    """Return FILES in a folder, or the downloaded ones.

    Args:
        folder: A folder that holds them, such as ``node_modules/onnxruntime-web/dist``. If it is None, the download's.

    Raises:
        InputError: If a file is missing, with what to do.
    """
    place = _own_place() if folder is None else Path(folder)
    missing = [name for name in FILES if not (place / name).is_file()]
    if missing and folder is not None:
        raise InputError(f"{folder} has no {missing[0]}; expected the folder dist of the npm package {NAME} {VERSION}")
    if missing:
        raise InputError(
            f"the page needs {NAME}, which is not downloaded yet; run `perceptual-style download {NAME}` "
            f"({SIZE / 1e6:.0f} MB from registry.npmjs.org), or give a folder with its files: --runtime FOLDER"
        )
    return [place / name for name in FILES]


def fetch_runtime(folder: str | Path | None = None, progress: ProgressCallback | None = None, url: str = URL) -> Path:
    """Download the package from the npm registry, verify it, and keep the files that a page needs.

    Args:
        folder: Folder to write into. If it is None, this package's own.
        progress: Called with the bytes so far. An exception from it stops the download.
        url: Address of the package.

    Returns:
        The folder with the files.

    Raises:
        HubError: If the download failed, or if other bytes came.
    """
    place = _own_place() if folder is None else Path(folder)
    if all((place / name).is_file() for name in FILES):
        return place
    data = _download(url, progress)
    if hashlib.sha512(data).digest() != base64.b64decode(_SHA512):
        raise HubError(f"{NAME} was not downloaded: wrong bytes came from {url} ({len(data)} bytes); try again")
    try:
        check_room(place, 2 * len(data))
        with tarfile.open(fileobj=io.BytesIO(data)) as package:
            for name in FILES:
                file = package.extractfile(f"package/dist/{name}")
                if file is not None:
                    with atomic_write(place / name) as temporary:
                        temporary.write_bytes(file.read())
    except OSError as error:
        raise HubError(f"{NAME} was not downloaded: cannot write {place}: {error.strerror or error}") from None
    return place


def _own_place() -> Path:
    return own_folder() / f"{NAME}-{VERSION}"


def _download(url: str, progress: ProgressCallback | None) -> bytes:
    chunks: list[bytes] = []
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or SIZE)
            while chunk := answer.read(_CHUNK):
                chunks.append(chunk)
                done += len(chunk)
                if done > 2 * SIZE:
                    raise HubError(f"{NAME} was not downloaded: {url} sends more than its {SIZE} bytes")
                if progress is not None:
                    progress(Progress(min(done, total), total))
    except (urllib.error.URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise HubError(
            f"{NAME} was not downloaded: {reason}; check the connection to {url}, or unpack that file elsewhere and give its "
            f"folder package/dist: --runtime FOLDER"
        ) from None
    return b"".join(chunks)
