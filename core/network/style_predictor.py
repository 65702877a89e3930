"""StylePredictor: a network that turns paintings into rows of one shared style network (Ghiasi et al. 2017, arXiv 1705.06830).

A fixed network, such as a loss network, looks at the painting. Its features become numbers that do not depend on the size of
the painting: the mean and deviation of each channel, and at each layer a reduced Gram matrix, the products of a few mixtures
of channels. Two linear layers turn these numbers into a short vector, and a third one turns the vector into the rows: the
scale and shift of each instance norm.

If the shared network's last layer has a norm, six more numbers stand behind the vector: mean and deviation of the painting's red,
green and blue. They become the row of that norm, so pictures have the colors of their painting before any training.

Rows depend linearly on the vector. A mixture of vectors is therefore a mixture of rows, as of styles that share a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..arithmetic import autocast
from ..errors import ArchError
from ..images.filters import resize
from .styles import Rows, rows_of, with_rows
from .transform_net import TransformNet, build_network, with_weights

#: What maps images (N, 3, H, W) to features (N, C, h, w) by layer
Features = Callable[[Tensor], Mapping[str, Tensor]]

_LARGEST = (
    5.0  # deviations from the mean painting at which a number is cut off: no painting may be far outside the others
)
_LEAST_SIDE = 32  # px: shortest side of a painting as the encoder sees it
_DARKEST = 0.02  # of [0, 1]: darker and lighter colors are clipped, since tanh reaches 0 and 1 only at infinity
_DEAD = 1e-3  # of a layer's mean deviation: channels that vary less count as constant


@dataclass(frozen=True)
class EncoderSpec:
    """Sizes of the encoder.

    Attributes:
        features: name of the network that looks at paintings, a key of ``loss_network.ARCHITECTURES``.
        layers: its layers, in order of depth.
        size: paintings are scaled to the area of a square of this side, px.
        reduced: channels of the reduced Gram matrices.
        hidden: channels of the hidden layer.
        vector: numbers of the vector.
    """

    features: str
    layers: tuple[str, ...]
    size: int
    reduced: int = 16
    hidden: int = 192
    vector: int = 100


class StyleEncoder(nn.Module):
    """The part that turns paintings into vectors.

    Attributes:
        spec: sizes.
        features: the fixed network that looks at paintings.
        mixtures: by layer, the mixtures of channels whose products are the reduced Gram matrix, (reduced, C).
        center: mean of each number over many paintings, see `standardize`.
        spread: standard deviation of each number over many paintings.
    """

    def __init__(self, spec: EncoderSpec, features: nn.Module, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.spec, self.features = spec, features
        self.mixtures = nn.ParameterDict(
            {layer: nn.Parameter(torch.empty(spec.reduced, channels[layer])) for layer in spec.layers}
        )
        for layer, mixtures in self.mixtures.items():
            bound = (3 / channels[layer]) ** 0.5
            nn.init.uniform_(mixtures, -bound, bound)  # on the meta device, normal_ would import torch._dynamo
        numbers = sum(2 * channels[layer] + spec.reduced * (spec.reduced + 1) // 2 for layer in spec.layers)
        self.center, self.spread = nn.Parameter(torch.zeros(numbers)), nn.Parameter(torch.ones(numbers))
        self.hidden = nn.Linear(numbers, spec.hidden)
        self.vector = nn.Linear(spec.hidden, spec.vector)
        self.keep_fixed()

    def keep_fixed(self) -> None:
        """Exclude from training what is never learned."""
        for fixed in (*self.features.parameters(), self.center, self.spread):
            fixed.requires_grad_(False)

    def forward(self, paintings: Tensor) -> Tensor:
        """Return the vectors (N, vector) of paintings (N, 3, H, W) RGB in [0, 1]."""
        numbers = (self.numbers(paintings) - self.center) / self.spread
        return self.vector(F.relu(self.hidden(numbers.clamp(-_LARGEST, _LARGEST))))

    def numbers(self, paintings: Tensor) -> Tensor:
        """Return what describes each painting, (N, numbers): roots of means and deviations, and reduced Gram matrices."""
        with torch.no_grad():
            features = self.features(paintings)
        with autocast(paintings.device, None):  # sums over pixels
            return torch.cat([part for layer in self.spec.layers for part in self._of_layer(layer, features[layer])], 1)

    def _of_layer(self, layer: str, features: Tensor) -> list[Tensor]:
        pixels = features.float().flatten(2)
        variance, mean = torch.var_mean(pixels, dim=2, keepdim=True, correction=0)
        deviation = variance.sqrt()
        dead = _DEAD * deviation.mean(dim=1, keepdim=True) + 1e-6
        mixed = self.mixtures[layer] @ ((pixels - mean) / (deviation + dead))
        products = mixed @ mixed.transpose(1, 2) / pixels.shape[2]
        row, column = torch.triu_indices(*products.shape[1:], device=products.device)
        # Activations are heavy-tailed; ReLUs make them 0 or more.
        return [mean.squeeze(2).clamp_min(0).sqrt(), deviation.squeeze(2).sqrt(), products[:, row, column]]

    @torch.no_grad()
    def standardize(self, numbers: Tensor) -> None:
        """Set center and spread from the `numbers` (N, numbers) of many paintings."""
        spread = numbers.std(dim=0, correction=0)
        self.center.copy_(numbers.mean(dim=0))
        self.spread.copy_(spread.clamp_min(0.01 * spread.mean()) + 1e-6)


class StylePredictor(nn.Module):
    """An encoder of paintings, the shared network, and the linear layer between them.

    A new predictor predicts the shared network's own row for every painting, with the painting's colors at the end if
    the network's last layer has a norm.

    Args:
        trunk: the shared network, of one style. It is trained, too.
        encoder: the encoder.

    Attributes:
        trunk: the shared network. Its own row is added to what is predicted.
        encoder: the encoder.
        head: the layer from vectors to rows.

    Raises:
        ArchError: the shared network has no instance norms, or several styles, or a norm at the end and another output
            than tanh.
    """

    def __init__(self, trunk: TransformNet, encoder: StyleEncoder) -> None:
        super().__init__()
        rows = rows_of(trunk)[0]
        if trunk.spec.styles > 1 or not rows:
            raise ArchError(f"a predictor needs a network of one style with norm=instance; got {trunk.spec}")
        if trunk.spec.last == "norm" and trunk.spec.output != "tanh":
            raise ArchError(f"a predictor of the last norm needs output=tanh; got {trunk.spec}")
        self.trunk, self.encoder = trunk, encoder
        self.head = nn.Linear(encoder.spec.vector, sum(row.numel() for row in rows.values()), bias=False)
        nn.init.zeros_(self.head.weight)
        self._networks: dict[int, TransformNet] = {}  # without weights, by the number of styles

    def seen(self, painting: Tensor) -> Tensor:
        """Return a painting (1, 3, H, W) scaled to the area that the encoder has learned to see."""
        height, width = painting.shape[-2:]
        scale = self.encoder.spec.size / math.sqrt(height * width)
        return resize(painting, *(max(round(side * scale), _LEAST_SIDE) for side in (height, width))).clamp(0, 1)

    def vectors(self, paintings: Tensor) -> Tensor:
        """Return the vectors of paintings (N, 3, H, W) RGB in [0, 1]: (N, vector), or (N, vector + 6) with colors."""
        vectors = self.encoder(paintings)
        return torch.cat([vectors, colors_of(paintings)], 1) if self.trunk.spec.last == "norm" else vectors

    def rows(self, vectors: Tensor) -> dict[str, Tensor]:
        """Return the rows of `vectors`: scales and shifts (N, C) by their names in the network."""
        learned = rows_of(self.trunk)[0].keys()
        own = {key: value for key, value in self.trunk.named_parameters() if key in learned}
        length = self.encoder.spec.vector
        parts = self.head(vectors[:, :length]).split([value.numel() for value in own.values()], dim=1)
        rows = {key: value + part for (key, value), part in zip(own.items(), parts, strict=True)}
        if self.trunk.spec.last == "norm":
            mean, deviation = vectors[:, length:].chunk(2, dim=1)
            for key, colors in zip(_last_norm(self.trunk), (deviation, mean), strict=True):
                rows[key] = rows[key] + colors
        return rows

    def network(self, vector: Tensor) -> TransformNet:
        """Return the ordinary network of one style that a vector (vector) stands for."""
        rows: Rows = {key: value[0].detach() for key, value in self.rows(vector[None]).items()}
        return with_rows(self.trunk, [rows])

    def forward(self, photos: Tensor, paintings: Tensor, raw: bool = False) -> Tensor:
        """Paint each of N photos in the style of one of N paintings.

        Args:
            photos: (N, 3, H, W) in the shared network's pixel convention.
            paintings: (N, 3, h, w) RGB in [0, 1].
            raw: as in `TransformNet.forward`.

        Returns:
            What the shared network returns.
        """
        rows, count = self.rows(self.vectors(paintings)), len(photos)
        if count == 1:
            own, row = {key: value[0] for key, value in rows.items()}, None
        else:
            own, row = rows, torch.arange(count, device=photos.device)
        weights = {**dict(self.trunk.named_parameters()), **own}
        return functional_call(self._network(count), weights, (photos, raw, row))

    def _network(self, styles: int) -> TransformNet:
        if styles not in self._networks:
            with torch.device("meta"):
                self._networks[styles] = TransformNet(self.trunk.spec.with_options(styles=styles))
        return self._networks[styles].train(self.training)


def colors_of(paintings: Tensor) -> Tensor:
    """Return mean and deviation of each color channel before tanh, (N, 6), of paintings (N, 3, H, W) RGB in [0, 1]."""
    raw = torch.atanh(2 * paintings.float().clamp(_DARKEST, 1 - _DARKEST) - 1)
    variance, mean = torch.var_mean(raw.flatten(2), dim=2, correction=0)
    return torch.cat([mean, variance.sqrt()], 1)


def with_last_norm(trunk: TransformNet) -> TransformNet:
    """Return a network of one style with a norm at the end that leaves all colors to the painting: its own row is 0."""
    spec = replace(trunk.spec, last="norm")
    new = build_network(spec)
    last = {key: torch.zeros_like(new.state_dict()[key]) for key in _last_norm(new)}
    return with_weights(spec, {**trunk.state_dict(), **last})


def _last_norm(trunk: TransformNet) -> tuple[str, str]:
    """Return the names of the scale and shift of the norm at the end."""
    norm = f"stages.{len(trunk.stages) - 1}.norm"
    return f"{norm}.weight", f"{norm}.bias"
