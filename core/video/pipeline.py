"""Decode, compute and encode at the same time, in the memory of a few frames: threads before and after the computation.

Frames are large and counted. Packets of sound and subtitles are small and pass in any number.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import Cancelled
from ..models.transfers import Transfers
from ..progress import Progress, ProgressCallback
from .reading import Frame

#: Takes a frame (1, 3, H, W) and a callback for its progress, and returns the new frame. `Stylizer` is one.
FrameFunction = Callable[[Tensor, ProgressCallback | None], Tensor]

_PATIENCE = 0.5  # seconds after which waiting is interrupted shortly: Windows would block Ctrl-C


@dataclass(frozen=True)
class _Failure:
    error: BaseException


_END = object()


@contextlib.contextmanager
def read_ahead(items: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """Read items in a thread, one frame ahead. Yield an iterator over them, which raises what reading raised."""
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    taken, stopped = threading.Semaphore(0), threading.Event()

    def read() -> None:
        try:
            for item in items:
                ready.put(item)
                if isinstance(item, Frame):
                    taken.acquire()
                if stopped.is_set():
                    return
            ready.put(_END)
        except BaseException as error:
            ready.put(_Failure(error))

    def take() -> Iterator[Any]:
        while (item := _next(ready)) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            if isinstance(item, Frame):
                taken.release()
            yield item

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        taken.release()
        thread.join()  # the file that it reads is closed next


@contextlib.contextmanager
def write_behind(write: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Yield a function that hands items to a thread, which writes them in order.

    With a frame, the function waits until the one before it is written. It raises what writing raised, and so does the
    end of the block. If the block fails, what is still waiting is not written.
    """
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room, stopped = threading.Semaphore(1), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not _END:
            try:
                if not stopped.is_set():
                    write(item)
            except BaseException as error:
                errors.append(error)
                stopped.set()
            if isinstance(item, Frame):
                room.release()

    def hand_over(item: Any) -> None:
        while isinstance(item, Frame) and not room.acquire(timeout=_PATIENCE):
            pass
        if errors:
            raise errors[0]
        waiting.put(item)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield hand_over
    except BaseException:
        stopped.set()
        raise
    finally:
        waiting.put(_END)
        thread.join()
    if errors:
        raise errors[0]


def computed(
    items: Iterable[Any], functions: Sequence[FrameFunction], progress: Callable[[int], ProgressCallback | None]
) -> Generator[Any, None, None]:
    """Yield items in order, with the result of a function in each frame.

    Args:
        items: Frames and packets.
        functions: One function for all frames, called in order and in the caller's thread; or several that share the
            frames, each called by one thread at a time.
        progress: Takes the number of a frame, and returns the callback for its progress. With several functions, frames
            report none.
    """
    if len(functions) > 1:
        yield from _spread(items, functions)
        return
    yield from _fetched(_in_turn(items, functions[0], progress))


def _in_turn(
    items: Iterable[Any], function: FrameFunction, progress: Callable[[int], ProgressCallback | None]
) -> Iterator[Any]:
    done = 0
    for item in items:
        if isinstance(item, Frame):
            item = replace(item, pixels=function(item.pixels, progress(done)))
            done += 1
        yield item


def _fetched(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items in order, with frames of a CUDA device on the host: each is copied while the next one is computed."""
    transfers: Transfers | None = None
    waiting: deque[Callable[[], Any]] = deque()
    for item in items:
        is_far = isinstance(item, Frame) and item.pixels.device.type == "cuda"
        if not is_far and not waiting:
            yield item
            continue
        while is_far and waiting:
            yield waiting.popleft()()
        if is_far:
            transfers = transfers or Transfers(item.pixels.device)
            waiting.append(partial(_arrived, item, transfers.download(item.pixels)))
        else:
            waiting.append(partial(_arrived, item, None))
    while waiting:
        yield waiting.popleft()()


def _arrived(item: Any, pixels: Callable[[], Tensor] | None) -> Any:
    return item if pixels is None else replace(item, pixels=pixels())


def _spread(items: Iterable[Any], functions: Sequence[FrameFunction]) -> Iterator[Any]:
    free: queue.SimpleQueue[FrameFunction] = queue.SimpleQueue()
    for function in functions:
        free.put(function)
    stopped = threading.Event()

    def check(progress: Progress) -> None:
        if stopped.is_set():
            raise Cancelled("stopped")

    def compute(frame: Frame) -> Frame:
        function = free.get()
        try:
            return replace(frame, pixels=function(frame.pixels, check))
        finally:
            free.put(function)

    waiting: deque[Any] = deque()  # packets, and the futures of frames
    frames = 0
    with ThreadPoolExecutor(len(functions)) as pool:
        try:
            for item in items:
                is_frame = isinstance(item, Frame)
                waiting.append(pool.submit(compute, item) if is_frame else item)
                frames += is_frame
                while waiting and (frames > len(functions) or not isinstance(waiting[0], Future)):
                    frames -= isinstance(waiting[0], Future)
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            stopped.set()


def _result(item: Any) -> Any:
    if not isinstance(item, Future):
        return item
    while not item.done():
        wait([item], _PATIENCE)
    return item.result()


def _next(ready: queue.SimpleQueue[Any]) -> Any:
    while True:
        with contextlib.suppress(queue.Empty):
            return ready.get(timeout=_PATIENCE)
