"""Damage small checkpoints of every kind in many ways, and check that each is opened or rejected properly.

    python tests/fuzz_checkpoints.py --count 10000

Each file may take 3 seconds of processor time and 1 GiB, and may raise nothing but CheckpointError. Child processes open
the files, so that a crash is noticed and counted, and the run goes on. The exit status is 1 if anything went wrong. The
files that caused it are kept in --folder.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import hostile_files
import torch
from foreign_containers import Torch7Writer, write_keras, write_onnx, write_torch7, write_variables
from foreign_files import make
from safetensors.torch import save_file

ONNX = find_spec("onnx") is not None
SECONDS, BYTES = 3.0, 2**30
_WORST_NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def write_seeds(folder: Path) -> list[Path]:
    """Write one small undamaged file of each kind; a lengstrom network is a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    state = make("pytorch/examples")
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": make("gordicaleksa"), "epoch": 2}, folder / "wrapped.pth")
    torch.save({"model_state": make("A-Jacobson")}, folder / "tied.pth.tar", _use_new_zipfile_serialization=False)
    save_file(make("rrmina"), folder / "rrmina.safetensors")
    write_torch7(folder / "instance.t7")
    write_torch7(folder / "batch.t7", "batch", wrapped=False)
    writers: list[tuple[str, Callable[[Path], object]]] = [
        ("named.onnx", lambda path: write_onnx(path, "pytorch/examples")),
        ("numbered.onnx", lambda path: write_onnx(path, "yakhyo", named=False, residual="twice")),
        ("keras.h5", write_keras),
    ]
    for name, write in writers:
        try:
            write(folder / name)
        except ImportError:  # the kind of a missing extra is left out
            (folder / name).unlink(missing_ok=True)
    write_variables(folder / "variables")
    ours = folder / "ours.safetensors"
    header = {
        "format": 1,
        "task": "style",
        "name": "ours",
        "arch": "c3s1-4,R4,c3s1-3 norm=instance padding=reflect output=tanh",
    }
    shapes = {"0.conv.weight": (4, 3, 3, 3), "0.conv.bias": (4,), "0.norm.weight": (4,), "0.norm.bias": (4,)}
    for part in ("first", "second"):
        shapes |= {f"1.{part}.conv.weight": (4, 4, 3, 3)} | {
            f"1.{part}.{k}": (4,) for k in ("conv.bias", "norm.weight", "norm.bias")
        }
    shapes |= {"2.conv.weight": (3, 4, 3, 3), "2.conv.bias": (3,)}
    save_file(
        {f"stages.{key}": torch.ones(shape) for key, shape in shapes.items()},
        ours,
        {"perceptual_style": json.dumps(header)},
    )
    return sorted(path for path in folder.iterdir())


def mutants(folder: Path, count: int, seed: int, real: Sequence[Path] = ()) -> Iterator[Path]:
    """Write ``count`` damaged files, one after the other, always in the same place, and yield each.

    Args:
        folder: where to write
        count: number of files
        seed: random seed of the damage
        real: files to damage instead of small ones made here
    """
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = list(real) or write_seeds(folder / "seeds")
    contents = [(path / "manifest.json" if path.is_dir() else path).read_bytes() for path in seeds]
    place = folder / "mutants"
    place.mkdir(exist_ok=True)
    write_variables(place)
    for _ in range(count):
        which = chance.randrange(len(seeds))
        data = mutate(bytearray(contents[which]), contents, chance)
        suffix = "".join(seeds[which].suffixes)
        path = place / ("manifest.json" if seeds[which].is_dir() else f"mutant{suffix}")
        path.write_bytes(data)
        yield path


def mutate(data: bytearray, others: list[bytes], chance: random.Random) -> bytes:
    """Damage a file as accidents do, or as an attacker would."""

    # Most of a file is weights, where damage is harmless: two of three places are near an end.
    def place() -> int:
        near = min(len(data), 3000)
        return chance.choice(
            (chance.randrange(len(data)), chance.randrange(near), len(data) - 1 - chance.randrange(near))
        )

    way = chance.randrange(13)
    if way == 0:
        return bytes(data[: place()])
    if way == 1:
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            data[place()] ^= 1 << chance.randrange(8)
    elif way == 2:
        other = chance.choice(others)
        length = chance.choice((1, 8, 64, 512))
        data[:length] = other[:length]
    elif way == 3:
        start, length = place(), chance.choice((1, 4, 16, 256))
        data[start : start + length] = bytes(length)
    elif way == 4:
        start, number = place(), chance.choice(_WORST_NUMBERS)
        width = chance.choice((4, 8))
        data[start : start + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    elif way == 5:
        start, length = place(), chance.choice((1, 7, 100))
        del data[start : start + length]
    elif way == 6:
        start, length = place(), chance.choice((1, 7, 100))
        data[start:start] = data[:length]
    elif way == 7:
        data[place() :] = chance.choice(others)[: chance.choice((100, 5000))]
    elif way == 8:
        return zip_bomb(chance)
    elif way == 9:
        return nested(chance)
    elif way == 10:
        return inside_a_zip(bytes(data), chance)
    elif way == 11:
        return claiming(chance)
    else:
        text = data.decode("latin-1")
        for digits in ("4", "8", "16", "3"):
            if chance.random() < 0.5:
                text = text.replace(digits, chance.choice(("0", "-1", "999999999999", digits)), chance.choice((1, 5)))
        return text.encode("latin-1")
    return bytes(data)


def zip_bomb(chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"w": 1}, 2) if chance.random() < 0.5 else bytes(3_000_000))
        archive.writestr("a/data/0", bytes(chance.choice((1000, 20_000_000))))
    data = bytearray(out.getvalue())
    if chance.random() < 0.5:  # and a claim of terabytes in the directory
        data[data.rfind(b"PK\x01\x02") + 24 :][:4] = b"\xff" * 4
    return bytes(data)


def nested(chance: random.Random) -> bytes:
    depth = chance.choice((50, 500, 5000, 100_000))
    kind = chance.randrange(5)
    if kind == 0:
        return b"\x80\x02" + b")\x85" * depth + b"."
    if kind == 1:
        return b"\x80\x02" + b"}" * depth + (b"U\x01a" + b"s") * 3 + b"."
    if kind == 2:
        return b"[" * depth if chance.random() < 0.5 else struct.pack("<Q", depth) + b'{"a":' + b"[" * (depth - 5)
    if kind == 3:
        table: object = None
        for _ in range(min(depth, 500)):
            table = {1: table}
        return bytes(Torch7Writer().write(table).data)
    return b"\x08\x07" + b"\x3a\x80\x80\x80\x80\x08" * min(depth, 5000)


def claiming(chance: random.Random) -> bytes:
    """Return a file that claims much, of a random size and kind, whole or slightly damaged."""

    def some(*counts: int) -> int:
        return chance.choice(counts)

    kinds: list[Callable[[], bytes]] = [
        lambda: hostile_files.nested_metadata(some(40, 60, 900, 4000, 100_000), chance.choice(("[]", "{}"))),
        lambda: hostile_files.many_styles(some(1, 4096, 20_000)),
        lambda: hostile_files.many_tensors(some(1, 5000, 50_000)),
        lambda: hostile_files.repeated_dicts(some(1, 300, 30_000), some(10, 1000, 100_000)),
        lambda: hostile_files.long_keys(some(10, 1_000_000), some(10, 100_000)),
        lambda: hostile_files.long_integers(some(10, 1_000_000), some(10, 100_000)),
        lambda: hostile_files.long_names(some(10, 1_000_000), some(10, 50_000)),
        lambda: hostile_files.long_shapes(some(3, 50_000), some(10, 60_000)),
        lambda: hostile_files.many_dicts(some(10, 50_000)),
        lambda: hostile_files.many_members(some(3, 50_000, 500_000)),
        lambda: hostile_files.shared_tables(some(3, 20, 90), chance.choice(("preprocessing", "sides"))),
        lambda: hostile_files.repeated_module(some(3, 30_000)),
        lambda: hostile_files.empty_nodes(some(10, 1_000_000)),
    ]
    if ONNX:
        kinds += [
            lambda: hostile_files.many_constants(some(10, 1000)),
            lambda: hostile_files.joined_constants(some(10, 5000)),
            lambda: hostile_files.shared_weights(some(10, 2000)),
            lambda: hostile_files.many_convolutions(some(10, 10_000)),
        ]
    data = bytearray(chance.choice(kinds)())
    if chance.random() < 0.3:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def inside_a_zip(data: bytes, chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(chance.choice(("a/data.pkl", "a/data/0", "data.pkl", "../../data.pkl")), data)
        if chance.random() < 0.3:
            archive.writestr("a/data.pkl", data[: chance.randrange(len(data))])
    return out.getvalue()


def attempt(path: Path) -> str:
    """Open a file and return 'opened', 'rejected', or what went wrong."""
    from perceptual_style.core.errors import CheckpointError
    from perceptual_style.core.models.loading import open_network

    started = time.process_time()  # processor time: other processes may keep it waiting
    try:
        open_network(path)
        outcome = "opened"
    except CheckpointError as error:
        text = str(error)
        outcome = (
            "rejected"
            if "\n" not in text and len(text) < 2000
            else f"a message of {len(text)} characters: {text!r:.200}"
        )
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error!s:.200}"
    taken = time.process_time() - started
    return outcome if taken <= SECONDS else f"took {taken:.1f} s"


def work() -> None:
    """Run as a child process: read a path per line, write an outcome per line."""
    import resource

    torch.set_num_threads(1)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30,) * 2)
    for line in sys.stdin:
        outcome = attempt(Path(line.rstrip("\n")))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if used - base > BYTES:
            outcome = f"took {(used - base) / 2**20:.0f} MiB"
        print(" ".join(outcome.split()), flush=True)


class Worker:
    """A child process that is restarted after a crash or a hang."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(self, path: Path) -> str:
        import select

        if self.process is None:
            command = [sys.executable, __file__, "--work"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline().strip() if ready else ""
        if line and not line.startswith("took"):
            return line
        status = self.process.poll() if ready else None
        self.process.kill()
        self.process.wait()
        self.process = None
        return line or (f"crashed with status {status}" if ready else "hung for a minute")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--real", type=Path, nargs="*", default=[], help="checkpoints to damage instead of generated ones"
    )
    parser.add_argument("--folder", type=Path, help="folder for the damaged files (default: a temporary folder)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return 0
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    worker, counts, wrong = Worker(), {"opened": 0, "rejected": 0}, 0
    for n, path in enumerate(mutants(folder, arguments.count, arguments.seed, arguments.real)):
        outcome = worker.run(path)
        if outcome in counts:
            counts[outcome] += 1
            continue
        wrong += 1
        kept = folder / f"wrong_{n}{path.suffix}"
        kept.write_bytes(path.read_bytes())
        print(f"{kept}: {outcome}")
    print(
        f"{arguments.count} files: {counts['opened']} opened, {counts['rejected']} rejected, {wrong} wrong ({folder})"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
