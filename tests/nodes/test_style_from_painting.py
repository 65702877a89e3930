"""StyleFromPainting: the same styles as core's, mixtures, which predictors it lists, and clear errors."""

from __future__ import annotations

import pytest
import torch
from small_networks import small_vgg16

ARCH = "c3s1-4,d8,R8,n2,c3s1-3 padding=reflect"


@pytest.fixture
def predictor(pack, host, tmp_path):
    """A predictor with random weights in models/fast_style."""
    torch.manual_seed(4)
    files, network = pack.module("core.models.predictor_file"), pack.module("core.network.transform_net")
    spec = pack.module("core.network.style_predictor").EncoderSpec("vgg16_small", ("relu1_2",), 48, 3, 8, 5)
    new = files.new_predictor(network.build_network(ARCH), spec, small_vgg16(tmp_path / "vgg.safetensors"))
    torch.nn.init.normal_(new.head.weight)
    files.save_predictor(host.styles / "any.safetensors", new, {"name": "any"})
    return host.styles / "any.safetensors"


def _painting(height: int = 70, width: int = 66, channels: int = 3, seed: int = 1, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed)) ** seed


def _predict(pack, *paintings: torch.Tensor, weights: str = "", predictor: str = "any.safetensors"):
    with torch.inference_mode():  # as the host runs nodes
        images = [each + 0 for each in paintings]
        return pack.run("StyleFromPainting", paintings=images, weights=[weights], predictor=[predictor])


def _stylized(pack, style) -> torch.Tensor:
    photo = torch.rand(1, 24, 33, 3, generator=torch.Generator().manual_seed(0))
    return pack.run("FastStylize", image=photo, style_model=style)


def _by_core(pack, predictor, *paintings: torch.Tensor, weights=None):
    images = [each.movedim(-1, 1) for each in paintings]
    return pack.module("core.models.predict").predict_style(images, weights=weights, predictor=predictor)


def test_style_matches_core_and_connects_wherever_a_style_does(pack, predictor):
    style = _predict(pack, _painting())
    expected = _by_core(pack, predictor, _painting())
    photo = torch.rand(1, 24, 33, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_stylized(pack, style), expected.stylize(photo.movedim(-1, 1)).movedim(1, -1))
    blend = pack.run("BlendStyles", style_model_1=style, style_model_2=_predict(pack, _painting(seed=3)), amount=0.5)
    assert len(blend.model.networks) == 1  # one network, because both share all but the row
    mixture = _by_core(pack, predictor, _painting(), _painting(seed=3)).network.state_dict()
    assert all(
        torch.allclose(mixture[key], value, atol=1e-5) for key, value in blend.model.network.state_dict().items()
    )


@pytest.mark.parametrize(("text", "weights"), [("", None), (" 2, 1 ", [2, 1]), ("0,5", [0, 1])])
def test_paintings_of_several_sizes_are_mixed(pack, predictor, text, weights):
    seen = [_painting(), _painting(90, 120, seed=3)]
    mixture = _predict(pack, *seen, weights=text).model.network.state_dict()
    expected = _by_core(pack, predictor, *seen, weights=weights).network.state_dict()
    assert all(torch.allclose(mixture[key], value, atol=1e-5) for key, value in expected.items())


def test_batch_counts_as_several_paintings_and_alpha_and_grey_are_accepted(pack, predictor):
    def picture(*paintings: torch.Tensor, weights: str = "") -> torch.Tensor:
        return _stylized(pack, _predict(pack, *paintings, weights=weights))

    batch, grey = _painting(batch=2), _painting(channels=1)
    alpha = torch.cat([_painting(), torch.ones(1, 70, 66, 1)], dim=-1)
    torch.testing.assert_close(picture(batch, weights="1, 3"), picture(batch[:1], batch[1:], weights="1,3"))
    torch.testing.assert_close(picture(grey), picture(grey.expand(-1, -1, -1, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(picture(alpha), picture(_painting()), atol=1e-4, rtol=0)


def test_predictors_and_styles_are_listed_apart(pack, host, predictor):
    pack.style(host.styles / "mine.safetensors")
    (host.styles / "other.pth").write_bytes(b"any")
    options = {
        node: next(each.options for each in pack.schema(node).inputs if each.id == name)
        for node, name in (
            ("StyleFromPainting", "predictor"),
            ("LoadStyleModel", "style"),
            ("TrainStyle", "start_from"),
        )
    }
    assert "any.safetensors" in options["StyleFromPainting"] and "mine.safetensors" not in options["StyleFromPainting"]
    for node in ("LoadStyleModel", "TrainStyle"):
        assert "mine.safetensors" in options[node] and "any.safetensors" not in options[node]
        assert ("predicted" in options[node]) == (node == "TrainStyle" and bool(_bundled(pack)))
    assert "other.pth (unreadable)" in options["LoadStyleModel"]


def _bundled(pack) -> list[str]:
    return pack.module("core.hub.manifest").names("style-predictor")


def test_fingerprint_changes_with_the_file(pack, predictor):
    node = pack.nodes["StyleFromPainting"]
    before = node.fingerprint_inputs(predictor=["any.safetensors"], weights=["1"])
    assert before == node.fingerprint_inputs(predictor=["any.safetensors"], paintings=None)
    predictor.write_bytes(predictor.read_bytes() + b" ")
    assert node.fingerprint_inputs(predictor=["any.safetensors"]) != before


def test_mistakes_are_explained(pack, predictor):
    def say(*paintings, **options) -> str:
        with pytest.raises(ValueError) as caught:
            _predict(pack, *paintings, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "the painting is 8x8 px; expected at least 64 px on each side" in say(_painting(8, 8))
    assert "values that are nan or infinite" in say(_painting() * torch.nan)
    assert "expected an IMAGE" in say(_painting()[0])
    assert "there are 3 weights for 1 paintings" in say(_painting(), weights="1,2,3")
    assert "the weights are 'two'; expected numbers separated by commas" in say(_painting(), weights="two")
    assert "there is no predictor of styles named 'x'" in say(_painting(), predictor="x")
    node = pack.nodes["StyleFromPainting"]
    assert node.validate_inputs(predictor=["any.safetensors"]) is True and node.validate_inputs() is True
    assert "there is no predictor of styles named 'mine'" in node.validate_inputs(predictor=["mine"])


def test_missing_predictor_is_explained(pack, monkeypatch):
    monkeypatch.setattr(pack.module("core.models.predict"), "names", lambda task: [])
    with pytest.raises(ValueError, match="no predictor of styles is bundled with this version; train one with"):
        pack.run("StyleFromPainting", paintings=[_painting()], weights=[""])


def test_pair_of_another_program_is_listed_once_and_predicts(pack, host):
    pytest.importorskip("onnx")
    from magenta_pair import write_pair

    file = write_pair(host.styles)
    options = next(each for each in pack.schema("StyleFromPainting").inputs if each.id == "predictor").options
    assert options == ["any_style", "arbitrary_predict.onnx"]
    listed = next(each for each in pack.schema("LoadStyleModel").inputs if each.id == "style").options
    assert not [name for name in listed if name.startswith("arbitrary")]
    style = _predict(pack, _painting(), predictor="arbitrary_predict.onnx")
    photo = torch.rand(1, 24, 33, 3, generator=torch.Generator().manual_seed(0))
    expected = _by_core(pack, file, _painting()).stylize(photo.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(_stylized(pack, style), expected)
