"""A small discriminator for perceptual upscalers, and its relativistic losses.

The discriminator looks at patches (Isola et al. 2017, PatchGAN). It judges by how much photos look more real than results do
on average (Jolicoeur-Martineau 2018, as in ESRGAN: Wang et al. 2018, section 3.2). It has no norms, so that it has no state but
its weights. Network and discriminator learn in the same step, from one backward pass, and share optimizer and checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

_SLOPE = 0.2
_WIDTHS = (32, 64, 96)  # a sixteenth of the channels of PatchGAN's discriminator: it runs on a CPU


class PatchDiscriminator(nn.Module):
    """Maps images (N, 3, H, W) in [0, 1] to a score for each patch, (N, 1, H / 4, W / 4): higher for more real.

    Args:
        seed: random seed of the initialization.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        one, two, three = _WIDTHS
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed other devices, permanently
            self.layers = nn.ModuleList(
                [
                    nn.Conv2d(3, one, 3, padding=1),
                    nn.Conv2d(one, two, 4, stride=2, padding=1),
                    nn.Conv2d(two, three, 4, stride=2, padding=1),
                    nn.Conv2d(three, 1, 3, padding=1, bias=False),  # relativistic losses would cancel a bias
                ]
            )

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of images."""
        x = 2 * image - 1
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), _SLOPE)
        return self.layers[-1](x)


def adversarial_losses(discriminator: nn.Module, output: Tensor, photos: Tensor) -> dict[str, Tensor]:
    """Return the losses of both sides.

    Args:
        discriminator: the discriminator.
        output: results of the network, (N, 3, H, W) in [0, 1].
        photos: the originals, the same shape as output.

    Returns:
        ``adversarial``, whose gradient reaches the network alone, and ``discriminator``, whose gradient reaches the
        discriminator alone.
    """
    real, fake = discriminator(photos), discriminator(output.detach())
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    as_seen = functional_call(discriminator, frozen, (output,))
    return {
        "adversarial": _relativistic(as_seen, real.detach()),
        "discriminator": _relativistic(real, fake),
    }


def _relativistic(better: Tensor, worse: Tensor) -> Tensor:
    """Return the loss of scores that should be ``better`` than the mean of the others, in both directions."""
    better, worse = better.float(), worse.float()
    return (F.softplus(worse.mean() - better).mean() + F.softplus(worse - better.mean()).mean()) / 2
