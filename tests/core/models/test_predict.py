"""Test styles predicted from paintings, and the files of predictors."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import SMALL, refusal
from perceptual_style.core import predict_style
from perceptual_style.core.checkpoints.own_format import load_tensors, save_tensors
from perceptual_style.core.errors import CheckpointError, ImageError, InputError
from perceptual_style.core.models import predict
from perceptual_style.core.models.predict import open_predictor
from perceptual_style.core.models.predictor_file import load_predictor, new_predictor, save_predictor
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.style_predictor import EncoderSpec
from perceptual_style.core.network.styles import mixed, rows_of
from perceptual_style.core.network.transform_net import build_network
from small_networks import small_vgg16
from torch import nn

SPEC = EncoderSpec("vgg16_small", ("relu1_2", "relu2_2"), size=48, reduced=3, hidden=8, vector=5)


@pytest.fixture(scope="module", params=["plain", "norm"])
def file(tmp_path_factory, request):
    """File of a predictor with random weights, for a network without and with a norm at the end."""
    folder = tmp_path_factory.mktemp("predictor")
    torch.manual_seed(2)
    new = new_predictor(build_network(f"{SMALL} last={request.param}"), SPEC, small_vgg16(folder / "vgg.safetensors"))
    nn.init.normal_(new.head.weight)
    save_predictor(folder / "any.safetensors", new, {"name": "any", "license": "MIT", "loss curve": [[1, 2.0]]})
    return folder / "any.safetensors"


def painting(seed: int, height: int = 70, width: int = 90) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(
        torch.rand(1, 3, 8, 9, generator=generator) ** seed, (height, width), mode="bilinear"
    )


def same_rows(one, other, tolerance: float = 1e-5) -> bool:
    ours, theirs = (rows_of(model.network)[0] for model in (one, other))
    return all(torch.allclose(ours[key], theirs[key], atol=tolerance) for key in theirs)


def test_file_gives_back_the_predictor(file, tmp_path):
    network, pixels, facts = load_predictor(file)
    assert facts["license"] == "MIT" and facts["encoder"]["layers"] == ["relu1_2", "relu2_2"]
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    save_predictor(tmp_path / "half.safetensors", network, facts, half=True, pixels=pixels)
    half = load_predictor(tmp_path / "half.safetensors")[0]
    for key, value in network.state_dict().items():
        assert torch.equal(value.half().float(), half.state_dict()[key])
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * file.stat().st_size


def test_predicted_style_is_an_ordinary_style(file):
    seen = painting(1)
    model = predict_style(seen, predictor=file, name="mine")
    assert model.name == "mine" and model.facts["license"] == "MIT" and model.facts["predicted by"] == "any"
    assert model.spec == load_predictor(file)[0].trunk.spec and "loss curve" not in model.facts
    photo = torch.rand(1, 3, 32, 44)
    assert (model.stylize(photo) - model.network(photo).clamp(0, 1)).abs().max() < 1e-4
    assert model.stylize(photo, strength=0.5, stroke_size=1.5, color="keep").shape == photo.shape
    assert not same_rows(model, predict_style(painting(2), predictor=file), 1e-2)


def test_mixture_is_the_weighted_mean_of_the_rows(file):
    predictor = open_predictor(file)
    seen = [painting(1), painting(2, 64, 200), painting(3, 100, 70)]
    alone = [predict_style(each, predictor=predictor) for each in seen]
    expected = mixed([rows_of(each.network)[0] for each in alone], [0.25, 0.75, 0])
    mixture = predict_style(seen, weights=[1, 3, 0], predictor=predictor)
    assert all(torch.allclose(rows_of(mixture.network)[0][key], row, atol=1e-5) for key, row in expected.items())
    assert same_rows(predict_style(seen, weights=[0, 2, 0], predictor=predictor), alone[1])
    batch = torch.cat([painting(1), painting(4)])
    equal = predict_style([painting(1), painting(4)], weights=[5, 5], predictor=predictor)
    assert same_rows(predict_style(batch, predictor=predictor), equal)


@pytest.mark.parametrize("size", [(64, 64), (64, 3000), (3000, 64), (900, 700)])
def test_paintings_of_any_size_give_finite_rows(file, size):
    model = predict_style(painting(1, *size), predictor=file)
    assert all(row.isfinite().all() for row in rows_of(model.network)[0].values())


def test_larger_copy_of_a_painting_gives_nearly_the_same_style(file):
    small, large, other = (predict_style(painting(*each), predictor=file) for each in ((1,), (1, 280, 360), (2,)))

    def apart(one, two):
        ours, theirs = (torch.cat([*rows_of(model.network)[0].values()]) for model in (one, two))
        return float((ours - theirs).norm())

    assert apart(small, large) < 0.2 * apart(small, other)


def test_bad_paintings_are_explained(file):
    def say(error, *paintings, **options):
        return refusal(error, predict_style, *paintings, predictor=file, **options)

    assert "the painting is 8x8 px; expected at least 64 px on each side" in say(InputError, torch.rand(1, 3, 8, 8))
    assert "painting has values that are nan or infinite" in say(ImageError, torch.full((1, 3, 70, 70), torch.nan))
    assert "remove alpha with image[:, :3]" in say(ImageError, torch.rand(1, 4, 70, 70))
    assert "use image.expand(-1, 3, -1, -1)" in say(ImageError, torch.rand(1, 1, 70, 70))
    assert "there is no painting" in say(InputError, [])
    two = [painting(1), painting(2)]
    assert "there are 1 weights for 2 paintings; expected one for each" in say(InputError, two, weights=[1])
    for wrong, shown in (([0, 0], "0, 0"), ([1, -1], "1, -1"), ([torch.nan, 1], "nan, 1"), ([torch.inf, 1], "inf, 1")):
        message = say(InputError, two, weights=wrong)
        assert f"the weights of the paintings are {shown}; expected numbers of 0 or more, not all 0" in message


def test_files_that_are_no_predictor_are_explained(file, tmp_path):
    tensors, header = load_tensors(file)
    damaged = tmp_path / "damaged.safetensors"

    def say(tensors, header):
        save_tensors(damaged, tensors, header)
        return refusal(CheckpointError, open_predictor, damaged)

    assert "holds 'style', not a predictor of styles; `perceptual-style train-predictor` makes one" in say(
        tensors, header | {"task": "style"}
    )
    lacking = {key: value for key, value in tensors.items() if key != "head.weight"}
    assert "does not fit its own description: head.weight is missing, expected (" in say(lacking, header)
    assert "trunk" not in say({k: v for k, v in tensors.items() if not k.startswith("encoder.features")}, header)
    bad = tensors | {"head.weight": torch.full_like(tensors["head.weight"], torch.nan)}
    assert "nan" in say(bad, header)
    for wrong in (None, 3, header["encoder"] | {"vector": 0}, header["encoder"] | {"layers": "relu1_2"}):
        assert "describes its encoder as" in say(tensors, header | {"encoder": wrong})
    assert "unknown loss network 'x'" in say(tensors, header | {"encoder": header["encoder"] | {"features": "x"}})
    larger = header["encoder"] | {"vector": 6}
    assert "does not fit its own description" in say(tensors, json.loads(json.dumps(header | {"encoder": larger})))


def test_predictor_is_not_opened_as_a_style(file):
    assert "is a predictor of styles, not a network; it needs a painting" in refusal(CheckpointError, load_style, file)


def test_missing_predictor_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "names", lambda task: [])
    message = refusal(CheckpointError, predict_style, painting(1))
    assert "train one with `perceptual-style train-predictor`" in message
    assert "there is no predictor of styles named 'nothing'" in refusal(CheckpointError, open_predictor, "nothing")
