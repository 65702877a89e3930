"""Networks between two networks, and the same network with more residual blocks, so that two can be interpolated."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from .transform_net import TransformNet, with_weights


def interpolate(network: TransformNet, partner: TransformNet, weight: float) -> TransformNet:
    """Return the network whose every weight is (1 - weight) times network's plus weight times partner's.

    Network interpolation (Wang et al. 2018, ESRGAN, section 3.4) works if one network was trained from the other.
    """
    theirs = partner.state_dict()
    weights = {
        key: ours.lerp(theirs[key].to(ours), weight) if ours.is_floating_point() else ours
        for key, ours in network.state_dict().items()
    }
    return with_weights(network.spec, weights)


def deepened(network: TransformNet, like: TransformNet) -> TransformNet | None:
    """Return a network of ``like``'s architecture with the same results as ``network``.

    ``network`` may have fewer residual blocks in its last row of them. The missing blocks follow at the end of that row:
    copies of ``like``'s blocks, with zeros in the second convolution and its norm.

    Returns:
        The deeper network, or None if the two differ in anything but the number of those blocks.
    """
    layers, fewer = like.spec.layers, network.spec.layers
    more = len(layers) - len(fewer)
    last = max((i for i, layer in enumerate(fewer) if layer.kind == "residual"), default=-1) + 1
    same = replace(like.spec, layers=layers[:last] + layers[last + more :]) == network.spec
    if more < 0 or not last or not same or any(layer != fewer[last - 1] for layer in layers[last : last + more]):
        return None
    result = copy.deepcopy(like)
    last += len(network.stages) - len(fewer)  # stages that are not layers come first
    stages = list(result.stages)
    with torch.no_grad():
        for stage in stages[last : last + more]:
            for parameter in stage.get_submodule("second").parameters():
                parameter.zero_()
    for mine, theirs in zip(stages[:last] + stages[last + more :], network.stages, strict=True):
        mine.load_state_dict(theirs.state_dict())
    return result
