"""Recipes as data: what is trained, on what, with which weights, and where each number comes from.

The paper and its authors' code differ, and ours differs from both; the trainer has one code path for all of them.
Sources: [P] the paper with its section, [C] the authors' code with its file, [ours] measured or chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import InputError
from ..losses.objective import ObjectiveWeights
from ..network.arch import ArchSpec
from .optimizers import OPTIMIZERS

PAPER_ARCH = "c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3 norm=batch padding=reflect-start output=tanh"
HALF_WIDTH_ARCH = "c9s1-16,d32,d64,R64x5,n2,c3s1-32,n2,c3s1-16,c9s1-3 norm=instance padding=reflect output=tanh"

_VGG16_STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


class Schedule(Protocol):
    """How long and how fast is trained.

    steps; optimizer: adam | muon, see optimizers.py
    learning_rate: after ``warmup`` steps of linear increase; schedule: constant | cosine (down to 0 at the end)
    clip: largest norm of the gradient, 0 for no clipping
    """

    steps: int
    optimizer: str
    learning_rate: float
    schedule: str
    warmup: int
    clip: float


def check_numbers(recipe: Schedule, least: Mapping[str, float]) -> None:
    """Raise InputError where a number of the recipe, or of the schedule, is out of range."""
    for name, smallest in {"steps": 1, "warmup": 0, "clip": 0, **least}.items():
        value = getattr(recipe, name)
        if not value >= smallest:  # nan, too
            raise InputError(f"{name.replace('_', ' ')} is {value}; expected at least {smallest}")
    if not 0 < recipe.learning_rate < 1:
        raise InputError(f"learning rate is {recipe.learning_rate}; expected a number between 0 and 1, such as 0.001")
    if recipe.optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer is {recipe.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
    if recipe.schedule not in ("constant", "cosine"):
        raise InputError(f"schedule is {recipe.schedule!r}; expected constant or cosine")


@dataclass(frozen=True)
class StyleRecipe:
    """How a style network is trained. What is not described here is in `Schedule`.

    arch: arch string; loss_network: a name of loss_network.ARCHITECTURES; weights: the objective
    batch_size; size: side of the square training crops, px
    style_size: longest side to which the style image is scaled, px; larger means larger strokes
    identity_steps: steps in which a new network learns to reproduce its input first, see style_training.learn_identity
    saturation, peaks: weights of losses.saturation_loss and of losses.peak_loss of the residual stages
    shadows: share of the crops that are data.shaded
    sources: where each number comes from
    """

    name: str
    arch: str
    loss_network: str
    weights: ObjectiveWeights
    steps: int
    batch_size: int
    size: int
    style_size: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    clip: float = 0.0
    identity_steps: int = 0
    saturation: float = 0.0
    peaks: float = 0.0
    shadows: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {
            "batch_size": 1,
            "size": 32,
            "style_size": 32,
            "identity_steps": 0,
            "saturation": 0,
            "peaks": 0,
            "shadows": 0,
        }
        check_numbers(self, least)


def recipe_of(facts: Mapping[str, object], name: str) -> StyleRecipe:
    """The recipe that the facts of a trained style state, every number as it was trained with.

    Raises InputError when they state none, as those of other programs' files.
    """
    stated = facts.get("recipe")
    try:
        known = {key: value for key, value in stated.items() if key in StyleRecipe.__dataclass_fields__}
        return StyleRecipe(**known | {"weights": ObjectiveWeights(**stated["weights"])})
    except (AttributeError, KeyError, TypeError):
        raise InputError(
            f"{name} does not state the recipe that it was trained with; name one instead, such as standard"
        ) from None


_PAPER_SOURCES = {
    "arch": "[P supplement, table 1]; output in [0, 1] units",
    "content": "[P 4.1] relu3_3 in the ECCV version (relu2_2 in arXiv v1)",
    "style": "[P 4.1] relu1_2, relu2_2, relu3_3, relu4_3, un-averaged squared Frobenius norm (eq. 4); "
    "the weight is not printed: 5 / C^2 makes each layer equal to the code's mean over C^2",
    "tv": "[P 4.1] 1e-6 to 1e-4, chosen for each style",
    "steps, batch_size, size": "[P 4.1] 40,000 of 4 at 256 px",
    "learning_rate": "[P 4.1] Adam 1e-3",
    "style_size": "[C doc/training.md] the example's 384",
    "loss network": "weights are for activations of Caffe's VGG-16; torchvision's are smaller and need a larger style weight",
}

RECIPES: dict[str, StyleRecipe] = {
    recipe.name: recipe
    for recipe in (
        StyleRecipe(
            name="paper",
            arch=PAPER_ARCH,
            loss_network="vgg16",
            weights=ObjectiveWeights(
                content={"relu3_3": 1.0},
                style={layer: 5.0 / c**2 for layer, c in zip(_VGG16_STYLE_LAYERS, (64, 128, 256, 512), strict=True)},
                style_form="paper",
                tv=1e-6,
                tv_form="code",
            ),
            steps=40_000,
            batch_size=4,
            size=256,
            style_size=384,
            sources=_PAPER_SOURCES,
        ),
        StyleRecipe(
            name="authors",
            arch="c9s1-16,d32,d64,R64x5,u32,u16,c9s1-3 norm=instance padding=reflect-start output=tanh",
            loss_network="vgg16",
            weights=ObjectiveWeights(
                content={"relu3_3": 1.0},
                style=dict.fromkeys(_VGG16_STYLE_LAYERS, 5.0),
                style_form="code",
                tv=1e-6,
                tv_form="code",
            ),
            steps=40_000,
            batch_size=4,
            size=256,
            style_size=384,
            sources={
                "arch": "[C README] the released instance-norm models: half width; output in [0, 1] units",
                "content, style, tv": "[C train.lua:37-43] layers 16 and 4,9,16,23, weights 1 and 5, strength 1e-6",
                "steps, batch_size, learning_rate": "[C train.lua] the defaults",
                "style_size": "[C doc/training.md]",
            },
        ),
        StyleRecipe(
            name="standard",
            arch=HALF_WIDTH_ARCH,
            loss_network="vgg19_distilled",
            weights=ObjectiveWeights(
                content={"relu4_1": 1.0},
                style={"relu1_1": 2.6, "relu2_1": 3.9, "relu3_1": 5.2, "relu4_1": 7.8, "relu5_1": 7.8},
                style_form="relative",
                tv=3.0,
                tv_form="mean",
            ),
            steps=4_000,
            batch_size=4,
            size=256,
            style_size=640,
            learning_rate=1e-3,
            schedule="cosine",
            warmup=200,
            clip=10.0,
            identity_steps=600,
            saturation=0.3,
            peaks=0.3,
            shadows=0.25,
            sources={
                "weights, style_size": "[ours] by eye, from what optimized images look like: more weight on the deep layers and "
                "a larger style image make larger strokes, weight on the shallow ones makes a weave",
                "identity_steps, saturation, peaks, shadows": "[ours] against black, white and blotted areas",
            },
        ),
    )
}

RECIPES["quick"] = replace(
    RECIPES["standard"],
    name="quick",
    weights=RECIPES["standard"].weights.scaled(content=2.0),
    steps=600,
    batch_size=2,
    style_size=576,
    optimizer="muon",
    warmup=50,
    sources={
        "all": "[ours] as standard",
        "weights, style_size": "[ours] by eye: forms stay readable with other paintings, too",
        "steps, batch_size, warmup": "[ours] enough for another painting where a trained style is the start, see BASES",
        "optimizer": "[ours] as low in 300 steps of 2 as Adam in 300 of 4, on another painting",
    },
)

#: Bundled styles that recipes are meant to start from, see bases.py.
BASES = {"quick": "starry_night"}


def get_recipe(name: str) -> StyleRecipe:
    """A recipe by name. Raises InputError with the names there are."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def adjusted(recipe: Any, factors: Mapping[str, float | None], width: int | None = None, **numbers: Any) -> Any:
    """A recipe, for styles or upscalers, with other numbers in place of its own; None stands for its own.

    factors: on the weights of the objective by group, see ObjectiveWeights.scaled; width: see ArchSpec.with_width
    numbers: fields of the recipe

    Raises InputError for what makes no sense.
    """
    numbers = {name: value for name, value in numbers.items() if value is not None}
    recipe = replace(recipe, weights=recipe.weights.scaled(**factors), **numbers)
    return recipe if width is None else replace(recipe, arch=str(ArchSpec.parse(recipe.arch).with_width(width)))
