"""What can go wrong with a download, each as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from ..errors import HubError
from .manifest import Entry


def page_of(entry: Entry) -> str:
    """The address at which a browser downloads the entry's file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(entry.hub.repo, entry.hub.filename, revision=entry.hub.revision)


def by_hand(entry: Entry, target: Path) -> str:
    """The way that always works."""
    return f"or download {page_of(entry)} in a browser and put it at {target}"


@contextlib.contextmanager
def explained(entry: Entry, target: Path) -> Iterator[None]:
    """Turn what huggingface_hub and the disk raise into HubError; what a progress callback raises passes."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HubError:
        raise
    except Exception as error:
        chain = _chain(error)
        if not isinstance(error, (OSError, EOFError)) and not any(
            isinstance(each, (HfHubHTTPError, OfflineModeIsEnabled)) or _is_connection(each) for each in chain
        ):
            raise
        raise HubError(f"{entry.id} was not downloaded: {_why(entry, chain, target)}") from None


def _why(entry: Entry, chain: list[BaseException], target: Path) -> str:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    hand, repo = by_hand(entry, target), f"{entry.hub.repo}"
    for error in chain:
        if isinstance(error, OfflineModeIsEnabled):
            return f"huggingface_hub is in offline mode; unset HF_HUB_OFFLINE, {hand}"
        if isinstance(error, GatedRepoError):
            return (
                f"{repo} is gated (status {_status(error)}); accept its conditions on its page and log in with "
                f"`hf auth login` or HF_TOKEN, {hand}"
            )
        if isinstance(error, HfHubHTTPError):
            status = _status(error)
            if status in (401, 403):
                return (
                    f"the Hub refuses access to {repo} (status {status}); log in with `hf auth login`, or set HF_TOKEN "
                    f"to a token that may read it, {hand}"
                )
            if status == 404:
                return (
                    f"{entry.hub.filename} at revision {entry.hub.revision[:12]} of {repo} is not there (status 404); "
                    f"update this package, {hand}"
                )
            return f"the Hub answered with status {status}; try again later, {hand}"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full; make room in {target.parent}, and try again"
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{error.filename or target.parent} cannot be written ({error.strerror}); {hand.removeprefix('or ')}"
    for error in chain:
        if isinstance(error, EOFError):
            return f"the connection broke off before the end; try again, {hand}"
        if _is_connection(error):
            return (
                f"the connection to the Hub failed ({_short(error)}); check it and try again, which goes on where it was, "
                f"{hand}"
            )
    return f"{_short(chain[0])}; try again, {hand}"


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return found


def _is_connection(error: BaseException) -> bool:
    """Connection errors of whichever HTTP library huggingface_hub uses (requests, httpx, httpx2), and Python's own."""
    library = type(error).__module__.split(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or library in ("httpx", "httpx2", "httpcore", "requests")


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
