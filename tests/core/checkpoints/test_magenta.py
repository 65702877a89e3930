"""Test Magenta's pair of ONNX files as a predictor, against the graph itself in onnx's reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import refusal
from perceptual_style.core import predict_style
from perceptual_style.core.checkpoints.dialects.magenta import part_of, read_pair
from perceptual_style.core.errors import CheckpointError
from perceptual_style.core.models.predict import open_predictor
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.training.style_start import begin

pytest.importorskip("onnx")
from magenta_pair import LINK, NUMBERS, Writer, write_pair, write_predict  # noqa: E402


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folder with a small pair."""
    folder = tmp_path_factory.mktemp("pair")
    return write_pair(folder).parent


def reference(path, **inputs) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(path)).run(None, inputs)[0]


def test_numbers_of_a_painting_are_those_of_the_graph(pair):
    painting = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    expected = reference(pair / "arbitrary_predict.onnx", style_image=painting.movedim(1, -1).numpy())
    found = open_predictor(pair / "arbitrary_predict.onnx").network.vectors(painting)
    assert np.abs(expected).max() > 0.05
    assert np.allclose(found[0], expected.ravel(), atol=1e-5)


def test_style_is_the_graph_that_paints_with_these_numbers(pair):
    network = open_predictor(pair / "arbitrary_transform.onnx").network
    vector = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(2))
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    inputs = {"content_image": photo.movedim(1, -1).numpy(), LINK: vector.view(1, 1, 1, -1).numpy()}
    expected = reference(pair / "arbitrary_transform.onnx", **inputs)
    with torch.no_grad():
        found = network.network(vector)(photo)
    assert np.allclose(found.movedim(1, -1).numpy(), expected, atol=1e-5) and expected.std() > 0.05


def test_predicted_style_works_at_any_size_and_mixes(pair):
    paintings = [torch.rand(1, 3, 80, 100) ** power for power in (1, 3)]
    model = predict_style(paintings, weights=[1, 2], predictor=pair / "arbitrary_predict.onnx", name="mine")
    photo = torch.rand(1, 3, 61, 87)
    assert (model.stylize(photo) - model.network(photo)[..., :61, :87].clamp(0, 1)).abs().max() < 1e-4
    assert model.name == "mine" and model.facts["family"] == "Magenta" and model.facts["license"] == "Apache-2.0"


def test_painting_is_seen_as_the_square_in_its_middle(pair):
    network = open_predictor(pair / "arbitrary_predict.onnx").network
    square = torch.rand(1, 3, 256, 256)
    assert torch.allclose(network.seen(torch.nn.functional.pad(square, (30, 30))), square, atol=1e-5)
    assert network.seen(torch.rand(1, 3, 700, 300)).shape == (1, 3, 256, 256)


def test_training_starts_from_what_the_pair_predicts(pair):
    start = begin(
        "c9s1-4,d6,d8,R8x2,n2,c3s1-6,n2,c3s1-4,c9s1-3 padding=reflect", ["a"], 0,
        init_from=pair / "arbitrary_predict.onnx", add_to=None, paintings=[torch.rand(1, 3, 70, 70)],
    )  # fmt: skip
    assert start.network.spec.first == "plain" and all(p.requires_grad for p in start.network.parameters())


def test_parts_are_recognized_by_their_contents(pair, tmp_path):
    assert part_of(pair / "arbitrary_predict.onnx") == "predict"
    assert part_of(pair / "arbitrary_transform.onnx") == "transform"
    (tmp_path / "arbitrary_predict.onnx").write_bytes(b"\x08\x07nothing")
    assert part_of(tmp_path / "arbitrary_predict.onnx") is None and part_of(tmp_path / "none.onnx") is None


def test_files_that_are_not_the_pair_are_explained(pair, tmp_path):
    write_predict(tmp_path / "a_predict.onnx")
    said = refusal(CheckpointError, open_predictor, tmp_path / "a_predict.onnx")
    assert "belongs with a_transform.onnx; put both files into one folder" in said
    write_predict(tmp_path / "a_transform.onnx")
    assert "is not one of Magenta's pair of networks" in refusal(
        CheckpointError, read_pair, tmp_path / "a_predict.onnx"
    )
    (tmp_path / "a_transform.onnx").write_bytes((pair / "arbitrary_transform.onnx").read_bytes()[:900])
    assert "damaged or incomplete ONNX file" in refusal(CheckpointError, read_pair, tmp_path / "a_predict.onnx")
    write_predict(tmp_path / "other.onnx")
    assert "not one of a pair that predicts styles" in refusal(CheckpointError, open_predictor, tmp_path / "other.onnx")
    assert "it has 2 inputs" in refusal(CheckpointError, load_style, pair / "arbitrary_transform.onnx")


def test_node_of_another_network_is_named(pair, tmp_path):
    (tmp_path / "b_transform.onnx").write_bytes((pair / "arbitrary_transform.onnx").read_bytes())
    writer = Writer(1)
    writer.node("Softsign", ["style_image"], LINK)
    writer.save(tmp_path / "b_predict.onnx", {"style_image": (1, 256, 256, 3)}, LINK)
    assert "the node Softsign is not supported" in refusal(CheckpointError, read_pair, tmp_path / "b_predict.onnx")
