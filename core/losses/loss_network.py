"""The fixed loss network, which turns images into features by layer name.

Layers have the names of the VGG papers: ``relu3_3`` is the activation after the third convolution of the third block
(Johnson et al., section 4.1). VGG-16 and VGG-19 also have each convolution's output before its activation: ``conv3_3``.
Each network is a list of steps that ends at the deepest requested layer. Callers give RGB
in [0, 1]: the network normalizes its input itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.tensor_files import read_tensors
from ..errors import CheckpointError, InputError
from ..network.pixels import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Step:
    """One operation of a loss network.

    Attributes:
        op: conv | conv_valid | factored | fire | pool | pool_ceil | head. A conv is a 3x3 convolution and a ReLU, with
            padding or (conv_valid) without. A factored one is the product of three: 1x1 to fewer channels, 3x3, and 1x1 to
            all channels, with nothing between them. A head is a 1x1 convolution and a ReLU that branches off: its output is
            a layer, and the next step continues from the head's input.
        key: prefix of its tensors, such as ``key.weight`` and ``key.bias``.
        name: name of its output if that is a layer, else "".
        stride: stride of the convolution.
        before: name of a convolution's output before its ReLU if that can be compared, else "".
    """

    op: str
    key: str = ""
    name: str = ""
    stride: int = 1
    before: str = ""


def _vgg(convolutions_per_block: tuple[int, ...]) -> tuple[Step, ...]:
    """Return the steps of a VGG network in torchvision's ``features.N`` numbering, where ReLU and pooling count too."""
    steps, index = [], 0
    for block, count in enumerate(convolutions_per_block, start=1):
        for i in range(1, count + 1):
            steps.append(Step("conv", f"features.{index}", f"relu{block}_{i}", before=f"conv{block}_{i}"))
            index += 2
        steps.append(Step("pool"))
        index += 1
    return tuple(steps)


def _squeezenet() -> tuple[Step, ...]:
    """Return the steps of torchvision's squeezenet1_1: ``relu1``, ``fire2`` ... ``fire9``, named as in its paper."""
    steps = [Step("conv_valid", "features.0", "relu1", stride=2)]
    fires = iter(range(2, 10))
    for index in range(2, 13):
        if index in (2, 5, 8):
            steps.append(Step("pool_ceil"))
        else:
            steps.append(Step("fire", f"features.{index}", f"fire{next(fires)}"))
    return tuple(steps)


def _distilled() -> tuple[Step, ...]:
    """Return the encoder of Collaborative Distillation (Wang et al., CVPR 2020): VGG-19 with 16 to 128 channels.

    1x1 heads widen the first convolution of each block to VGG-19's channels. The layer is the head's ReLU.
    """
    steps: list[Step] = []
    for block, count in enumerate((2, 2, 4, 4, 1), start=1):
        if block > 1:
            steps.append(Step("pool"))
        for i in range(1, count + 1):
            steps.append(Step("conv", f"conv{block}{i}"))
            if i == 1:
                steps.append(Step("head", f"conv{block}1_aux", f"relu{block}_1"))
    return tuple(steps)


def _small_vgg16() -> tuple[Step, ...]:
    """Return the steps of our own small VGG-16: VGG-16 with all its channels, down to relu4_3, and factored convolutions."""
    steps: list[Step] = []
    for block, count in enumerate((2, 2, 3, 3), start=1):
        steps += [Step("pool")] if block > 1 else []
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            steps.append(Step("factored" if steps else "conv", name, f"relu{block}_{i}", before=name))
    return tuple(steps)


@dataclass(frozen=True)
class Architecture:
    """The layout of a loss network.

    Attributes:
        steps: operations in order.
        normalization: how the input is normalized: ``imagenet`` (mean and deviation) or ``own`` (1x1 convolution ``conv0``).
        padding: padding mode of the convolutions: ``constant`` (zeros) or ``reflect``.
        smallest: smallest side of an image, px.
    """

    steps: tuple[Step, ...]
    normalization: str = "imagenet"
    padding: str = "constant"
    smallest: int = 16

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all activations, in order of depth."""
        return tuple(step.name for step in self.steps if step.name)

    def activation(self, layer: str) -> str:
        """Return the activation that follows a convolution, such as relu3_3 for conv3_3. Return other names unchanged."""
        return next((step.name for step in self.steps if step.before == layer and layer), layer)


ARCHITECTURES: dict[str, Architecture] = {
    "vgg16": Architecture(_vgg((2, 2, 3, 3, 3))),
    "vgg19": Architecture(_vgg((2, 2, 4, 4, 4))),
    "vgg16_small": Architecture(_small_vgg16()),
    "squeezenet1_1": Architecture(_squeezenet(), smallest=17),
    "vgg19_distilled": Architecture(_distilled(), normalization="own", padding="reflect", smallest=32),
}


def recognize(weights: str | Path, layers: Iterable[str], expected: str) -> str:
    """Return the name of the loss network whose weights a file holds, down to the given layers.

    Args:
        weights: the file.
        layers: layers that the network must have.
        expected: the name to return if several networks fit.

    Returns:
        A key of ARCHITECTURES.

    Raises:
        CheckpointError: No loss network fits. The message says why the expected one does not.
    """
    tensors, refusal, layers = read_tensors(weights), "", tuple(layers)
    for name in dict.fromkeys([expected, *ARCHITECTURES]):
        try:
            LossNetwork(name, tensors, layers)
            return name
        except InputError as error:
            refusal = refusal or str(error)
    raise CheckpointError(f"{weights} is not a loss network that can be used here: {refusal}")


class LossNetwork(nn.Module):
    """A fixed, pretrained network whose features are compared.

    All tensors come from the given weights. None is ever left at its random initialization.

    Args:
        name: a key of ARCHITECTURES.
        weights: a file (safetensors, or a torch file of plain tensors) or a dict of tensors, with torchvision's names. None
            (deprecated) uses the weights downloaded by `perceptual-style download`.
        layers: names of the layers to compute. The network ends at the deepest of them.

    Attributes:
        name: As given.
        layers: As given, each once.
        architecture: All steps of this kind of network.
        steps: The steps down to the deepest layer.
        weights: Weights and biases by name, frozen.
        mean: Mean of the input's normalization, (3, 1, 1).
        std: Standard deviation of the input's normalization, (3, 1, 1).

    Raises:
        InputError: The name or a layer is unknown.
        CheckpointError: The weights lack a layer, which the message names, or have tensors of other shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str | Path | Mapping[str, Tensor] | None, layers: Iterable[str]) -> None:
        super().__init__()
        if name not in ARCHITECTURES:
            raise InputError(f"unknown loss network {name!r}; expected one of {', '.join(ARCHITECTURES)}")
        self.name, self.layers = name, tuple(dict.fromkeys(layers))
        self.architecture = ARCHITECTURES[name]
        self.steps = self._needed_steps()
        if weights is None:
            # Kept for one version. This room is below the hub and cannot know what was downloaded: callers find the file.
            from ..hub.loss_networks import loss_weights_file

            warnings.warn(
                "LossNetwork(name, None, layers) is deprecated; give a file of weights, "
                "such as core.hub.loss_networks.loss_weights_file(name, layers)",
                DeprecationWarning,
                stacklevel=2,
            )
            weights = loss_weights_file(name, self.layers)
        source = "the given state dict" if isinstance(weights, Mapping) else str(weights)
        tensors = weights if isinstance(weights, Mapping) else read_tensors(weights)
        self.weights = nn.ParameterDict()
        if self.architecture.normalization == "own":
            self._take(tensors, "conv0", (3, 3, 1, 1), source, "the input normalization")
        else:
            self.register_buffer(
                "mean", torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device="cpu").view(3, 1, 1), persistent=False
            )
            self.register_buffer(
                "std", torch.tensor(IMAGENET_STD, dtype=torch.float32, device="cpu").view(3, 1, 1), persistent=False
            )
        self._load(tensors, source)
        self.eval().requires_grad_(False)

    def depth(self, layer: str) -> int:
        """Return the position of a layer in the architecture, from the input."""
        return self.architecture.layers.index(self.architecture.activation(layer))

    def _needed_steps(self) -> tuple[Step, ...]:
        """Return the steps down to the deepest layer, without the heads of other layers. Raise InputError."""
        for layer in self.layers:
            if self.architecture.activation(layer) not in self.architecture.layers:
                raise InputError(f"{self.name} has no layer {layer!r}; it has {', '.join(self.architecture.layers)}")
        if not self.layers:
            raise InputError("a loss network needs at least one layer; got none")
        needed = {self.architecture.activation(layer) for layer in self.layers}
        deepest = max(i for i, step in enumerate(self.architecture.steps) if step.name in needed)
        steps = self.architecture.steps[: deepest + 1]
        return tuple(step for step in steps if step.op != "head" or step.name in self.layers)

    def _load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        channels = 3
        for step in self.steps:
            layer = step.name or step.key
            if step.op == "fire":
                squeezed = self._take(tensors, f"{step.key}.squeeze", (None, channels, 1, 1), source, layer)
                wide = self._take(tensors, f"{step.key}.expand1x1", (None, squeezed, 1, 1), source, layer)
                channels = wide + self._take(tensors, f"{step.key}.expand3x3", (None, squeezed, 3, 3), source, layer)
            elif step.op == "head":
                self._take(tensors, step.key, (None, channels, 1, 1), source, layer)
            elif step.op == "factored":
                fewer = self._take(tensors, f"{step.key}.reduce", (None, channels, 1, 1), source, layer, bias=False)
                fewer = self._take(tensors, f"{step.key}.core", (None, fewer, 3, 3), source, layer, bias=False)
                channels = self._take(tensors, f"{step.key}.expand", (None, fewer, 1, 1), source, layer)
            elif step.key:
                channels = self._take(tensors, step.key, (None, channels, 3, 3), source, layer)

    def _take(
        self,
        tensors: Mapping[str, Tensor],
        key: str,
        shape: tuple[int | None, ...],
        source: str,
        layer: str,
        bias: bool = True,
    ) -> int:
        """Copy the weight of ``key``, and its bias if it has one, and return the number of output channels."""
        wanted = [f"{key}.weight", f"{key}.bias"][: 2 if bias else 1]
        lacks = next((name for name in wanted if tensors.get(name) is None), None)
        if lacks is not None:
            raise CheckpointError(
                f"{source} lacks {layer} of {self.name} (no tensor {lacks}); give a file that contains this layer, "
                f"or use shallower layers"
            )
        weight, *others = (tensors[name] for name in wanted)
        fits = weight.ndim == 4 and all(w in (None, n) for w, n in zip(shape, weight.shape, strict=True))
        if not fits or any(other.shape != weight.shape[:1] for other in others):
            raise CheckpointError(
                f"{source} is not a {self.name}: {key}.weight is {tuple(weight.shape)}, expected "
                f"{tuple('any' if n is None else n for n in shape)} for {layer}"
            )
        for name in wanted:
            # Tensors made in a host's inference mode cannot be used in training, but their clones can.
            copied = tensors[name].detach().float().clone()
            self.weights[name.replace(".", "/")] = nn.Parameter(copied, requires_grad=False)
        return weight.shape[0]

    def _conv(self, x: Tensor, key: str, padding: int = 1, stride: int = 1) -> Tensor:
        name = key.replace(".", "/")
        weight, bias = self.weights[f"{name}/weight"], self.weights.get(f"{name}/bias")
        if padding and self.architecture.padding == "reflect":
            x, padding = F.pad(x, (padding,) * 4, mode="reflect"), 0
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)

    def _normalized(self, image: Tensor) -> Tensor:
        if self.architecture.normalization == "own":
            return self._conv(image, "conv0", padding=0)
        return (image - self.mean) / self.std

    def forward(self, image: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Compute the features of images.

        Args:
            image: (N, 3, H, W) RGB in [0, 1].
            until: the layer to stop after, one of ``layers``. If None, all layers are computed.

        Returns:
            Features (N, C, h, w) by layer, in order of depth.

        Raises:
            InputError: The image is too small.
        """
        self.check_size(image)
        x = self._normalized(image)
        features: dict[str, Tensor] = {}
        for step in self.steps:
            out = self._linear(step, x)
            if step.before in self.layers:
                features[step.before] = out
            if step.op not in ("pool", "pool_ceil"):
                out = F.relu(out)
            if step.name in self.layers:
                features[step.name] = out
            if step.op != "head":
                x = out
            if until is not None and until in (step.name, step.before):
                break
        return features

    def _linear(self, step: Step, x: Tensor) -> Tensor:
        """Return a step's result before its last ReLU, if it has one."""
        if step.op == "pool":
            return F.max_pool2d(x, 2)
        if step.op == "pool_ceil":
            return F.max_pool2d(x, 3, 2, ceil_mode=True)
        if step.op == "fire":
            x = F.relu(self._conv(x, f"{step.key}.squeeze", padding=0))
            wide = (self._conv(x, f"{step.key}.expand1x1", padding=0), self._conv(x, f"{step.key}.expand3x3"))
            return torch.cat(wide, dim=1)
        if step.op == "factored":
            few = self._conv(self._conv(x, f"{step.key}.reduce", padding=0), f"{step.key}.core")
            return self._conv(few, f"{step.key}.expand", padding=0)
        padding = 1 if step.op == "conv" else 0
        return self._conv(x, step.key, padding=padding, stride=step.stride)

    def check_size(self, image: Tensor) -> None:
        """Raise InputError for images so small that the deepest layer would be empty."""
        if min(image.shape[-2:]) < self.architecture.smallest:
            h, w = image.shape[-2:]
            raise InputError(
                f"an image of {w}x{h} px is too small for {self.name}; it needs {self.architecture.smallest} px"
            )
