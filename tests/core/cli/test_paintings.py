"""Test styles of paintings on the command line: found for one run, or saved as files."""

from __future__ import annotations

import pytest
import torch
from helpers import difference, save_noise, save_style
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.predict import predict_style
from perceptual_style.core.models.predictor_file import new_predictor, save_predictor
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.style_predictor import EncoderSpec
from perceptual_style.core.network.transform_net import build_network
from small_networks import small_vgg16

ARCH = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh last=norm"


@pytest.fixture
def predictor(tmp_path):
    """A predictor with random weights."""
    torch.manual_seed(1)
    spec = EncoderSpec("vgg16_small", ("relu1_2",), 48, 3, 8, 5)
    new = new_predictor(build_network(ARCH), spec, small_vgg16(tmp_path / "vgg.safetensors"))
    torch.nn.init.normal_(new.head.weight)
    save_predictor(tmp_path / "any.safetensors", new, {"name": "any", "license": "MIT"})
    return tmp_path / "any.safetensors"


@pytest.fixture
def photo(tmp_path):
    return save_noise(tmp_path / "photo.png", 40, 30)


@pytest.fixture
def paintings(tmp_path):
    return [save_noise(tmp_path / f"{width}.png", width, 70) for width in (66, 90)]


def test_paintings_give_the_same_result_as_in_python(run, refused, predictor, photo, paintings, tmp_path):
    style = save_style(tmp_path / "style.safetensors")
    arguments = ["stylize", photo, "-o", tmp_path / "out.png", "--predictor", predictor]
    both = [*arguments, "--style-image", paintings[0], "--style-image", paintings[1]]
    seen = [read_image(path).filled for path in paintings]
    for options, weights in (([], None), (["--style-weights", "3, 1"], [3, 1])):
        assert run(*both, *options)[0] == 0
        expected = predict_style(seen, weights=weights, predictor=predictor).stylize(read_image(photo).pixels)
        assert difference(tmp_path / "out.png", expected) <= 0.5 / 255 + 1e-6
    assert "the weights are 'x'; expected numbers" in refused(*both, "--style-weights", "x")
    assert "there are 1 weights for 2 paintings" in refused(*both, "--style-weights", "1")
    assert "belong to paintings; name them with --style-image" in refused(*arguments)
    assert "not allowed with" in refused(*both, "--style", style)
    assert "no such file" in refused(*arguments, "--style-image", tmp_path / "nothing.png")
    assert "not a predictor of styles" in refused(*arguments[:-1], style, "--style-image", paintings[0])
    assert "would be replaced" in refused("stylize", photo, "-o", paintings[0], *both[4:])


def test_predicted_style_is_saved_as_a_style_like_any_other(run, refused, predictor, photo, paintings, tmp_path):
    out = tmp_path / "mine.safetensors"
    command = ["predict-style", *paintings, "--weights", "1,2", "--predictor", predictor]
    status, answer, _ = run(*command, "-o", out)
    assert status == 0 and answer.strip() == str(out)
    saved, seen = load_style(out), [read_image(path).filled for path in paintings]
    assert saved.name == "mine" and saved.facts["license"] == "MIT" and saved.facts["predicted by"] == "any"
    expected = predict_style(seen, weights=[1, 2], predictor=predictor)
    image = read_image(photo).pixels
    assert torch.equal(saved.stylize(image), expected.stylize(image))
    assert run(*command, "-o", tmp_path / "half.safetensors", "--half")[0] == 0
    assert (tmp_path / "half.safetensors").stat().st_size < out.stat().st_size
    assert "expected a name that ends in .safetensors" in refused(*command, "-o", tmp_path / "mine.png")
    assert "is read and would be replaced" in refused(*command, "-o", predictor)
