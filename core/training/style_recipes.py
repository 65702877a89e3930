"""Recipes of style training as data: architecture, loss weights, schedule, and the source of each number.

The paper and its authors' code differ, and our recipes differ from both. One training loop serves them all. Sources: [P]
the paper with its section, [C] the authors' code with its file, [ours] measured or chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import InputError
from ..losses.objective import ObjectiveWeights
from ..network.arch import ArchSpec
from .optimizers import OPTIMIZERS

PAPER_ARCH = "c9s1-32,d64,d128,R128x5,u64,u32,c9s1-3 norm=batch padding=reflect-start output=tanh"
HALF_WIDTH_ARCH = "c9s1-16,bd32,bd64,R64x5,n2,c3s1-32,n2,c3s1-16,c9s1-3 norm=instance padding=reflect output=tanh"

_VGG16_STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


#: Smallest values of a recipe's numbers.
_SMALLEST = {
    "batch_size": 1, "size": 32, "style_size": 32, "identity_steps": 0, "saturation": 0, "peaks": 0, "shadows": 0,
    "steadiness": 0, "weave": 0, "stride_grid": 0, "content_floor": 0,
}  # fmt: skip


class Schedule(Protocol):
    """The part of a recipe that the training loop reads."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        ...

    @property
    def optimizer(self) -> str:
        """Name of the optimizer, adam | muon, see optimizers.py."""
        ...

    @property
    def learning_rate(self) -> float:
        """Learning rate after the warm-up."""
        ...

    @property
    def schedule(self) -> str:
        """How the learning rate changes after the warm-up: constant | cosine (down to 0 at the end)."""
        ...

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate increases linearly."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient, 0 for no clipping."""
        ...


def check_numbers(recipe: Schedule, smallest: Mapping[str, float]) -> None:
    """Raise InputError if a number of the schedule, or one named in ``smallest``, is out of range."""
    for name, least in {"steps": 1, "warmup": 0, "clip": 0, **smallest}.items():
        value = getattr(recipe, name)
        if not value >= least:  # nan, too
            raise InputError(f"{name.replace('_', ' ')} is {value}; expected at least {least}")
    if not 0 < recipe.learning_rate < 1:
        raise InputError(f"learning rate is {recipe.learning_rate}; expected a number between 0 and 1, such as 0.001")
    if recipe.optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer is {recipe.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
    if recipe.schedule not in ("constant", "cosine"):
        raise InputError(f"schedule is {recipe.schedule!r}; expected constant or cosine")


@dataclass(frozen=True)
class StyleRecipe:
    """How a style network is trained.

    Attributes:
        name: name of the recipe.
        arch: arch string.
        loss_network: name of the loss network, a key of ``loss_network.ARCHITECTURES``.
        weights: weights of the objective.
        steps: number of steps.
        optimizer: adam | muon.
        learning_rate: learning rate after the warm-up.
        schedule: how the learning rate changes after the warm-up: constant | cosine (down to 0 at the end).
        warmup: steps in which the learning rate increases linearly.
        clip: largest norm of the gradient, 0 for no clipping.
        batch_size: crops in a batch.
        size: side of the square training crops, px.
        style_size: longest side to which the style image is scaled, px. Larger values make larger strokes.
        identity_steps: steps in which a new network first learns to reproduce its input, see identity_pretraining.py.
        saturation: weight of ``functional.saturation_loss``.
        peaks: weight of ``functional.peak_loss`` of the residual stages.
        shadows: share of the crops that pass through ``photos.shaded``, 0 to 1.
        steadiness: weight of ``functional.steadiness_loss``, between the pictures of each crop and of its disturbed copy
            (disturbances.py). Costs a second pass of the style network, but not of the loss network.
        weave: weight of ``functional.weave_loss``.
        stride_grid: weight of ``functional.stride_grid_loss`` with the network's stride as its period.
        content_floor: floor of the relative content loss, over the mean norm of the photos (content_floors.py). With 0, photos
            of little but sky or shadow count most.
        no_lattice: whether the last convolution is kept from drawing a lattice of 2 px, see lattice.py.
        sources: where each number comes from. Part of the facts by which a checkpoint is matched to its run.

    Raises:
        InputError: A number is out of range, or the optimizer or schedule is unknown.
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
    steadiness: float = 0.0
    weave: float = 0.0
    stride_grid: float = 0.0
    content_floor: float = 0.0
    no_lattice: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_numbers(self, _SMALLEST)


def recipe_of(facts: Mapping[str, object], name: str) -> StyleRecipe:
    """Return the recipe in the facts of a trained style, with every number as it was trained.

    Args:
        facts: facts of the style's file.
        name: the style's name, for the error.

    Raises:
        InputError: The facts have no recipe, as in files of other programs.
    """
    stated = facts.get("recipe")
    if isinstance(stated, Mapping):
        known = {key: value for key, value in stated.items() if key in StyleRecipe.__dataclass_fields__}
        with suppress(AttributeError, KeyError, TypeError):
            return StyleRecipe(**known | {"weights": ObjectiveWeights(**stated["weights"])})
    raise InputError(f"{name} does not state the recipe it was trained with; name a recipe instead, such as standard")


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
            loss_network="vgg16_small",
            weights=ObjectiveWeights(
                content={"relu3_3": 1.2},
                content_form="relative",
                style=dict(zip(_VGG16_STYLE_LAYERS, (6.0, 14.0, 3.0, 0.2), strict=True)),
                style_form="relative",
                tv=1.0,
                tv_form="mean",
            ),
            steps=4_000,
            batch_size=4,
            size=256,
            style_size=640,
            optimizer="muon",
            learning_rate=7e-4,
            schedule="cosine",
            warmup=50,
            identity_steps=600,
            saturation=0.3,
            peaks=0.3,
            shadows=0.2,
            weave=1000.0,
            stride_grid=20_000.0,
            content_floor=1.0,
            no_lattice=True,
            sources={
                "weights, style_size": "[ours] by eye, near the authors' at the scale of Caffe's VGG-16, but relu4_3 a thousand "
                "times as strong: large shapes. The forms are relative, so that the weights suit every VGG-16",
                "optimizer, learning_rate": "[ours] as low in 300 steps of 2 as Adam in 300 of 4",
                "saturation, peaks, shadows": "[ours] against blots in flat and dark areas",
                "weave": "[ours] against a hatch in skies",
                "content_floor": "[ours] less style is lost to photos of little but sky or shadow; a content weight of 1.2 keeps "
                "as much as 1 without",
                "stride_grid, no_lattice": "[ours] against the canvas on enlarged pictures",
            },
        ),
    )
}
"""Recipes for styles by name: standard, paper, authors, quick."""

RECIPES["quick"] = replace(
    RECIPES["standard"],
    name="quick",
    steps=300,
    batch_size=1,
    style_size=512,
    sources={
        "all": "[ours] as standard",
        "steps, batch_size, style_size": "[ours] enough for another painting where a predicted style is the start, see BASES",
    },
)


def get_recipe(name: str) -> StyleRecipe:
    """Return a recipe by name.

    Raises:
        InputError: There is no such recipe. The message lists the names.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def adjusted(recipe: Any, factors: Mapping[str, float | None], width: int | None = None, **numbers: Any) -> Any:
    """Return a style or upscale recipe with some of its numbers replaced. None keeps the recipe's own number.

    Args:
        recipe: the recipe.
        factors: factors on the weights of the objective by group, see `ObjectiveWeights.scaled`.
        width: width of the network, see `ArchSpec.with_width`.
        **numbers: values of the recipe's fields.

    Raises:
        InputError: A number is out of range.
    """
    numbers = {name: value for name, value in numbers.items() if value is not None}
    recipe = replace(recipe, weights=recipe.weights.scaled(**factors), **numbers)
    return recipe if width is None else replace(recipe, arch=str(ArchSpec.parse(recipe.arch).with_width(width)))
