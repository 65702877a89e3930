"""Arch strings that together have every kind of layer and option, and untrained networks for them."""

from __future__ import annotations

import random

import torch
from perceptual_style.core.network.transform_net import TransformNet, build_network

ARCHS = [
    "c9s1-8,d16,d16,R16x2,n2,c3s1-8,n2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,d16,d16,R16x3,u8,u8,c9s1-3",
    "c9s1-8,d16,d16,R16x3,u8,u8,c9s1-3 norm=batch",
    "c9s1-8,R8x2,u8,u8,c9s1-3 norm=batch padding=zero",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=reflect norm=batch",
    "c9s1-8,d16,R16,U2,c3s1-8,c9s1-3 padding=zero norm=none",
    "c3s1-8,R8x2,p4-3 norm=none padding=zero output=linear base=bicubic",
    "c3s1-8,R8,p2-8,c3s1-3 norm=instance padding=reflect",
    "c3s1-8,d8,p2-8,p3-3 norm=batch padding=replicate",
    "c9s1-8,d16,R16x2,n2,c9s1-3 padding=reflect residual=relu",
    "c9s1-8,d16,R16x2,n2,c9s1-3 padding=zero residual=twice",
    "c5s1-8,d16,R16x2,n2,c5s1-8,c9s1-3 padding=same last=norm eps=0.001",
    "c5s1-8,d16,R16x2,n2,c5s1-8,c9s1-3 padding=reflect output=sigmoid first=plain last=norm",
    "c7s1-4,c5s3-4,f5s3-6,c3s1-3 padding=zero",
    "c9s1-8,d16,R16x2,n2,c5s1-6,c3s1-1 padding=replicate",
    "c3s1-3 padding=replicate output=tanh150",
    "n2,c3s1-3 padding=reflect output=sigmoid",
    "U2,c9s1-3 padding=reflect",
    "c9s1-8,bd16,bd16,R16x2,n2,c3s1-8,n2,c3s1-8,c9s1-3 padding=reflect",
    "c9s1-8,bd16,R16,U2,bc5s2-8,u8,c9s1-3 norm=batch",
    "bd8,bd8,n4,c3s1-3 norm=none padding=zero",
    "c5s1-8,bd16,bc1s2-8,R8,n4,c9s1-3 padding=same",
    "c5s1-8,bd16,bd8,R8,n4,c9s1-3 padding=replicate residual=relu",
]


def randomized(arch: str, seed: int = 0) -> TransformNet:
    """Return a network with norms of both signs, and running statistics away from 0 and 1."""
    torch.manual_seed(seed)
    network = build_network(arch).eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if "norm.weight" in name or "norm.bias" in name or "running_mean" in name:
            tensor.normal_()
        elif "running_var" in name:
            tensor.uniform_(0.5, 1.5)
    return network


def random_arch(choice: random.Random) -> str:
    """Return a style-like network of random layers: down, blocks, up again in one of four ways."""
    width, depth = choice.choice((2, 3, 5)), choice.randint(0, 2)
    layers = [f"c{choice.choice((3, 5, 9))}s1-{width}"] + [f"{choice.choice(('', 'b'))}d{width}"] * depth
    layers += [f"R{width}x{choice.randint(1, 2)}"] * choice.randint(0, 1)
    for _ in range(depth):
        layers.append(
            choice.choice((f"u{width}", f"p2-{width}", f"n2,c3s1-{width}", f"U2,c{choice.choice((3, 5))}s1-{width}"))
        )
    layers.append(f"c{choice.choice((1, 3, 9))}s1-{choice.choice((1, 3, 6))}")
    options = f"norm={choice.choice(('instance', 'batch', 'none'))} output={choice.choice(('tanh', 'linear'))}"
    return f"{','.join(layers)} {options} padding={choice.choice(('reflect-start', 'reflect', 'replicate', 'zero', 'same'))}"
