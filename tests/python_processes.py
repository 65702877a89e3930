"""Python processes that need torch. On Linux they are forked from one that has imported it, which takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing.reduction import DupFd

_PRELOADED = ["numpy", "torch", "torch._dynamo", "torch.distributed", "safetensors.torch", "PIL.Image"]


class ForkedPython:
    """A process that runs a script. It has what tests use of ``subprocess.Popen``.

    Attributes:
        pid: Process id.
        stdout: Text that the script prints; None if it goes elsewhere.
    """

    def __init__(
        self, script: str, *arguments: object, env: dict[str, str], cwd: object = None, stdout: int | None = None
    ):
        """Start the process. Arguments become ``sys.argv[1:]``; ``stdout`` is a file descriptor to print to."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, encoding="utf-8")
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        ends = _Descriptor(writing if stdout is None else stdout), _Descriptor(self._errors.fileno())
        self._process = context.Process(
            target=_run, args=(script, [str(argument) for argument in arguments], env, cwd and str(cwd), *ends)
        )
        self._process.start()
        os.close(writing)
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float = 120) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise AssertionError(f"the process did not end within {timeout} s")
        return self.returncode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        out = self.stdout.read()
        timer.cancel()
        self.wait(timeout)
        self._errors.seek(0)
        return out, self._errors.read()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def __enter__(self) -> ForkedPython:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self.stdout.close()
        self._errors.close()


class _Descriptor:
    """A file descriptor that reaches the process as a number of its own."""

    def __init__(self, number: int):
        self.number = number

    def __reduce__(self):
        return _detach, (DupFd(self.number),)


def _detach(descriptor) -> int:
    return descriptor.detach()


def _run(script: str, arguments: list[str], env: dict[str, str], cwd: str | None, stdout: int, stderr: int) -> None:
    """Become what a new interpreter would be: environment, folder, streams, signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    if cwd:
        os.chdir(cwd)
    sys.path[:0] = [*env.get("PYTHONPATH", "").split(os.pathsep), ""]
    sys.argv = ["-c", *arguments]
    import torch

    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", torch.get_num_threads())))
    exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102


def start_python(script: str, *arguments: object, env: dict[str, str], cwd: object = None, stdout: int | None = None):
    """Start a Python process that runs ``script`` and return it."""
    if sys.platform.startswith("linux"):
        return ForkedPython(script, *arguments, env=env, cwd=cwd, stdout=stdout)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    stdout = subprocess.PIPE if stdout is None else stdout
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
