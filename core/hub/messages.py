"""Errors of a download, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Iterator
from pathlib import Path

from ..errors import HubError, PerceptualStyleError, shortened
from .manifest import Entry
from .patience import CallbackError, retry_after
from .ranges import RangesRefused


def page_of(entry: Entry) -> str:
    """Return the address from which a browser can download the entry's file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(entry.remote.repo, entry.remote.filename, revision=entry.remote.revision)


def by_hand(entry: Entry, target: Path) -> str:
    """Return the advice that ends most messages: download the file by hand."""
    return f"or download {page_of(entry)} in a browser and put it at {target}"


@contextlib.contextmanager
def explained(entry: Entry, target: Path) -> Iterator[None]:
    """Turn errors of huggingface_hub, the connection and the disk into HubError.

    So does any other exception that the answer of a server or proxy causes. Only errors of this package pass, and those of a
    progress callback (see `patience.guarded`).

    Args:
        entry: The entry that is downloaded.
        target: Where a user can put the file by hand.
    """
    try:
        yield
    except CallbackError as stopped:
        raise stopped.error from None
    except (PerceptualStyleError, RangesRefused):
        raise
    except Exception as error:
        raise HubError(f"{entry.id} was not downloaded: {_why(entry, _chain(error), target)}") from None


@contextlib.contextmanager
def explained_upload(name: str) -> Iterator[None]:
    """Turn errors of an upload to the repository ``name`` into HubError."""
    try:
        yield
    except PerceptualStyleError:
        raise
    except Exception as error:
        chain = _chain(error)
        why = next(filter(None, (_upload_refused(each) for each in chain)), None)
        if why is None and any(map(_is_connection, chain)):
            why = f"the connection to the Hub failed ({_short(error)}); check it and try again"
        raise HubError(f"{name} was not uploaded: {why or _short(error)}") from None


def _upload_refused(error: BaseException) -> str | None:
    """Explain why the Hub refuses an upload."""
    from huggingface_hub.errors import LocalTokenNotFoundError
    from huggingface_hub.utils import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "huggingface_hub is in offline mode; unset HF_HUB_OFFLINE"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, LocalTokenNotFoundError) or (isinstance(error, HfHubHTTPError) and status in (401, 403)):
        return "the Hub refuses it; log in with `hf auth login`, or set HF_TOKEN to a token that may write there"
    if not isinstance(error, HfHubHTTPError):
        return None
    if status == 409:
        return "the repository exists already; add --update to replace its style (the Hub keeps the earlier one)"
    if status == 404:
        return "there is no such repository; leave out --update to create it"
    return f"the Hub answered with status {status} ({_short(error)})"


def _why(entry: Entry, chain: list[BaseException], target: Path) -> str:
    hand = by_hand(entry, target)
    for error in chain:
        if why := _refused(entry, error, hand) or _disk(error, target, hand):
            return why
    for error in chain:
        if isinstance(error, EOFError):
            return f"the connection broke off before the end; try again, {hand}"
        if _is_connection(error):
            return f"the connection to the Hub failed ({_short(error)}); check it and try again to resume the download, {hand}"
    if isinstance(chain[0], OSError):
        return f"{_short(chain[0])}; try again, {hand}"
    return (
        f"the answer cannot be understood ({type(chain[0]).__name__}: {_short(chain[0])}), perhaps because it comes from a "
        f"proxy; check the connection and try again, {hand}"
    )


def _refused(entry: Entry, error: BaseException, hand: str) -> str | None:
    """Explain offline mode and the Hub's refusals."""
    from huggingface_hub.utils import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    remote = entry.remote
    if isinstance(error, OfflineModeIsEnabled):
        return f"huggingface_hub is in offline mode; unset HF_HUB_OFFLINE, {hand}"
    if not isinstance(error, HfHubHTTPError):
        return None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return (
            f"{remote.repo} is gated (status {status}); accept its conditions on its page and log in with "
            f"`hf auth login` or HF_TOKEN, {hand}"
        )
    if status in (401, 403):
        return (
            f"the Hub refuses access to {remote.repo} (status {status}); log in with `hf auth login`, or set HF_TOKEN "
            f"to a token that may read it, {hand}"
        )
    if status == 404 and entry.id == remote.repo:
        return f"there is no {remote.filename} in {remote.repo}; only styles that `perceptual-style push` uploaded have one"
    if status == 404:
        return (
            f"{remote.filename} does not exist at revision {remote.revision[:12]} of {remote.repo} (status 404); "
            f"update this package, {hand}"
        )
    seconds = retry_after(error)
    later = "later" if not seconds else f"in {math.ceil(seconds)} s"
    return f"the Hub answered with status {status}; try again {later}, {hand}"


def _disk(error: BaseException, target: Path, hand: str) -> str | None:
    """Explain a full disk and missing permissions."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; make room in {target.parent}, and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.filename or target.parent} cannot be written ({error.strerror}); {hand.removeprefix('or ')}"
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes."""
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return found


def _is_connection(error: BaseException) -> bool:
    """Recognize connection errors of every HTTP library that huggingface_hub has used, and Python's own."""
    library = type(error).__module__.split(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or library in ("httpx", "httpx2", "httpcore", "requests")


def _short(error: BaseException) -> str:
    return shortened(str(error), 160) or type(error).__name__
