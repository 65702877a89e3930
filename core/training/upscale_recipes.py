"""Recipes of super-resolution as data. style_recipes.py explains the sources [P] and [ours]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InputError
from ..losses.objective import ObjectiveWeights
from ..models.upscale_model import SCALES
from .photo_pairs import REAL
from .style_recipes import check_numbers

#: Smallest values of a recipe's numbers.
_SMALLEST = {
    "batch_size": 1,
    "size": 8,
    "candidates": 1,
    "grid": 0,
    "mesh": 0,
    "shift": 0,
    "average": 0,
    "low_pass": 0,
    "adversarial": 0,
    "sharpen": 0,
}


@dataclass(frozen=True)
class UpscaleRecipe:
    """How an upscaler is trained.

    Attributes:
        name: name of the recipe.
        arch: arch string, whose scale is the factor.
        weights: weights of the objective. Its content image is the HR image.
        steps: number of steps.
        optimizer: adam | muon.
        learning_rate: learning rate after the warm-up.
        schedule: how the learning rate changes after the warm-up: constant | cosine (down to 0 at the end).
        warmup: steps in which the learning rate increases linearly.
        clip: largest norm of the gradient, 0 for no clipping.
        batch_size: pairs of crops in a batch.
        size: side of the LR crops, px.
        loss_network: name of the loss network, a key of ``loss_network.ARCHITECTURES``.
        degradation: how LR is made, see ``photo_pairs.PairFolder``.
        candidates: number of places to choose a crop from, see ``photo_pairs.PairFolder``.
        grid: weight of ``functional.grid_loss`` with the factor as its period.
        mesh: weight of ``functional.mesh_loss``.
        shift: largest shift of the crops, px, before the loss network sees them; another at each step. Its pools and the
            network's shuffle then never lie on each other for long, and no grid is learned.
        low_pass: weight of ``functional.low_pass_loss``, for blocks of 8 px.
        adversarial: weight of the adversarial loss, see adversary.py. 0 trains without a discriminator.
        sharpen: amount of an unsharp mask with a sigma of 0.6 LR px, which the HR photos get before they are targets. The
            discriminator sees them as they are.
        average: decay of the moving average of the weights, which becomes the result. 0 uses the last weights.
        sources: where each number comes from. Part of the facts by which a checkpoint is matched to its run.

    Raises:
        InputError: A number is out of range, or the optimizer or schedule is unknown.
    """

    name: str
    arch: str
    weights: ObjectiveWeights
    steps: int
    batch_size: int
    size: int
    loss_network: str = "vgg16"
    degradation: str = "bicubic"
    candidates: int = 1
    grid: float = 0.0
    mesh: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    clip: float = 0.0
    average: float = 0.0
    shift: int = 0
    low_pass: float = 0.0
    adversarial: float = 0.0
    sharpen: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_numbers(self, _SMALLEST)
        if self.average >= 1:
            raise InputError(f"average is {self.average}; expected a decay below 1, such as 0.999")


def _ours(factor: int, deeper: bool = False) -> str:
    """Return an arch string that works at low resolution. x8 shuffles twice, far cheaper than one shuffle by 8."""
    body = {1: "R48x5,c3s1-3", 2: "R48x5,p2-3", 4: "R48x8,p4-3", 8: "R48x5,p2-48,p4-3"}[factor]
    body = body.replace("R48x8", "R48x16") if deeper else body
    return f"c3s1-48,{body} norm=none padding=zero output=linear base=bicubic"


def _paper_arch(factor: int) -> str:
    """Return the arch string of table 2 (supplement): four residual blocks, log2 f fractionally strided convolutions."""
    ups = {2: "u64", 4: "u64x2", 8: "u64x3"}[factor]
    return f"c9s1-64,R64x4,{ups},c9s1-3 norm=batch padding=zero output=tanh"


_OURS_SOURCES = {
    "arch": "[ours] at low resolution, without norms, from bicubic: a third of the size of SRVGGNetCompact",
    "numbers": "[ours] for two CPU cores",
}
_PAPER_SOURCES = {
    "arch": "[P supplement, table 2]; output in [0, 1] units",
    "weights": "[P 4.2] feature loss at relu2_2 alone; the pixel loss alone for the baseline",
    "steps, batch_size, size, learning_rate": "[P 4.2] 200,000 of 4 at 288 px HR, Adam 1e-3",
    "degradation": "[P 4.2] Gaussian blur of sigma 1, then bicubic",
}


def _pixel(factor: int) -> UpscaleRecipe:
    return UpscaleRecipe(
        "pixel", _ours(factor), ObjectiveWeights(pixel=1.0, pixel_form="charbonnier"),
        steps=10_000, batch_size=16, size=40 if factor < 8 else 24, candidates=3, learning_rate=2e-3, schedule="cosine",
        warmup=100, clip=1.0, average=0.999,
        sources=_OURS_SOURCES | {"candidates": "[ours] flat areas, where every upscaler is right, teach little"},
    )  # fmt: skip


_FEATURES = ObjectiveWeights(
    content={"conv2_2": 0.25, "conv3_3": 1.0, "conv4_3": 1.0}, content_form="absolute",
    pixel=0.3, pixel_form="charbonnier",
)  # fmt: skip
_AGAINST_PATTERNS: dict[str, Any] = {"grid": 5_000.0, "mesh": 5.0, "shift": 7}
_FEATURES_SOURCES = _OURS_SOURCES | {
    "content": "[ours] after ESRGAN: before activation, absolute differences. At one shallow layer, networks weave a mesh",
    "low_pass": "[ours] features hardly notice a shift of color; the weight is not tuned",
    "grid, mesh, shift": "[ours] against the patterns that features alone leave: pools of 8 px, shuffles of the factor",
    "adversarial": "[ours] off; no weight is tuned yet",
}


def _perceptual(factor: int) -> UpscaleRecipe:
    """Return the recipe for training from a network of `pixel` (init_from), which may have fewer residual blocks."""
    return UpscaleRecipe(
        "perceptual", _ours(factor, deeper=True), _FEATURES, low_pass=1.0, **_AGAINST_PATTERNS,
        steps=3_000, batch_size=8, size=40 if factor < 8 else 24, learning_rate=5e-4, schedule="cosine", warmup=50,
        clip=1.0, average=0.999,
        sources=_FEATURES_SOURCES | {"arch": "[ours] that of pixel, x4 with twice the residual blocks"},
    )  # fmt: skip


def _restore(factor: int) -> UpscaleRecipe:
    """Return the recipe for real photos. It starts best from a network of `pixel`, with which it can be blended later."""
    return UpscaleRecipe(
        "restore", _ours(factor, deeper=True), ObjectiveWeights(pixel=1.0, pixel_form="charbonnier"), degradation=REAL,
        low_pass=0.3, sharpen=0.6 if factor > 2 else 0.0, steps=10_000, batch_size=16,
        size=96 if factor == 1 else 40 if factor < 8 else 24, candidates=2,
        learning_rate=1e-3, schedule="cosine", warmup=100, clip=1.0, average=0.999,
        sources=_OURS_SOURCES | {
            "degradation": "[ours] the order of Real-ESRGAN with narrower ranges, see degradations.py",
            "low_pass": "[ours] keeps colors; the weight is not tuned",
            "sharpen": "[ours] after Real-ESRGAN; up to x2 it makes what is left of noise stronger",
        },
    )  # fmt: skip


def _restore_perceptual(factor: int) -> UpscaleRecipe:
    """Return the recipe that follows `restore`, which it starts from."""
    return replace(
        _restore(factor), name="restore-perceptual", weights=_FEATURES, low_pass=1.0, steps=3_000, batch_size=8,
        candidates=1, learning_rate=5e-4, warmup=50, **_AGAINST_PATTERNS,
        sources={**_restore(factor).sources, **_FEATURES_SOURCES},
    )  # fmt: skip


def _paper(factor: int, name: str, weights: ObjectiveWeights) -> UpscaleRecipe:
    return UpscaleRecipe(
        name, _paper_arch(factor), weights, steps=200_000, batch_size=4, size=288 // factor, degradation="blur",
        sources=_PAPER_SOURCES,
    )  # fmt: skip


UPSCALE_RECIPES: dict[str, Callable[[int], UpscaleRecipe]] = {
    "pixel": _pixel,
    "perceptual": _perceptual,
    "restore": _restore,
    "restore-perceptual": _restore_perceptual,
    "paper": lambda factor: _paper(factor, "paper", ObjectiveWeights(content={"relu2_2": 1.0})),
    "paper-pixel": lambda factor: _paper(factor, "paper-pixel", ObjectiveWeights(pixel=1.0)),
}


def upscale_recipe(name: str, factor: int) -> UpscaleRecipe:
    """Return a recipe by name for a factor of 2, 4 or 8, or 1 for recipes that restore.

    Raises:
        InputError: There is no such recipe or factor. The message lists what there is.
    """
    if name not in UPSCALE_RECIPES:
        raise InputError(f"unknown recipe {name!r}; expected one of {', '.join(UPSCALE_RECIPES)}")
    factors = (1, *SCALES) if name.startswith("restore") else SCALES
    if factor not in factors:
        raise InputError(f"the factor is {factor}; expected one of {', '.join(map(str, factors))}")
    return UPSCALE_RECIPES[name](factor)
