"""Small files that claim much are rejected in one line, in seconds and in little memory. None hides the others."""

from __future__ import annotations

import pytest
from hostile_files import KINDS, nested_metadata, safetensors
from perceptual_style.core.checkpoints.budget import Budget
from perceptual_style.core.checkpoints.own_format import is_readable, load_tensors, read_header, style_names
from perceptual_style.core.errors import CheckpointError, quoted, shortened

CHECK = """
import resource, sys, time
import torch
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.models.loading import open_network
torch.set_num_threads(1)
try:
    import onnx, onnx.numpy_helper
except ImportError:
    pass
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    started = time.process_time()
    try:
        open_network(path)
        text = "opened"
    except CheckpointError as error:
        text = str(error)
    taken = time.process_time() - started
    print(f"{taken:.1f} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024} {len(text)} {text.count(chr(10))}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".t7", ".onnx"])
def test_hostile_files_take_little_time_and_memory(suffix, tmp_path, run_python):
    pytest.importorskip("resource")
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    names = [name for name in KINDS if name.endswith(suffix)]
    for name in names:
        (tmp_path / name).write_bytes(KINDS[name]())
    process = run_python(CHECK, *(tmp_path / name for name in names))
    lines = process.stdout.splitlines()
    assert len(lines) == len(names), process.stderr
    for name, line in zip(names, lines, strict=True):
        seconds, mebibytes, length, breaks = map(float, line.split())
        assert seconds < 3 and mebibytes < 500 and length < 700 and breaks == 0, f"{name}: {line}"


@pytest.mark.parametrize("depth", [60, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":'])
def test_nested_metadata_are_unreadable(depth, brackets, tmp_path):
    path = tmp_path / "nested.safetensors"
    text = f'{{"a": {"[" * depth}{"]" * depth}}}' if brackets == "[]" else brackets * depth + "1" + "}" * depth
    path.write_bytes(safetensors({"perceptual_style": text}))
    assert (read_header(path), style_names(path), is_readable(path)) == ({}, (), False)
    with pytest.raises(CheckpointError, match="metadata cannot be read .it is nested more than 50 times") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)


def test_files_look_readable_unless_their_kind_or_header_is_damaged(tmp_path):
    contents = {
        "good": safetensors({}), "nested": nested_metadata(), "text": b"Entry not found",
        "cut": safetensors({})[:40], "styles": safetensors({"perceptual_style": '{"styles": 3}'}),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert [name for name in (*contents, "missing") if is_readable(tmp_path / name)] == ["good"]


def test_budget_is_shared_by_all_that_is_taken_from_it():
    budget = Budget(1000)
    for _ in range(4):
        budget.spend(100_000, 4 * 2**20)
    with pytest.raises(CheckpointError, match="more than 400000 operations"):
        budget.spend()
    budget = Budget(1000)
    budget.spend(size=2**24)
    with pytest.raises(CheckpointError, match="far more than its 1000 bytes"):
        budget.spend(size=4001)


def test_values_of_files_are_quoted_in_part():
    nested: list = []
    for _ in range(500):
        nested = [nested]
    assert len(quoted([nested] * 10_000)) <= 60 and quoted({"a": 1}) == "{'a': 1}"
    assert shortened("a\x1b[2J\n b\u202ec") == "a [2J b c" and shortened("x" * 10**6, 20) == "x" * 17 + "..."
    assert shortened("x" * 20, 20) == "x" * 20
