"""The command ``evaluate``: its first argument says what to measure."""

from __future__ import annotations

import argparse

from . import evaluate_style, evaluate_upscale


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the kinds of measurements and their options."""
    kinds = command.add_subparsers(title="what to measure", required=True, metavar="KIND")
    upscale = kinds.add_parser("upscale", help="PSNR, SSIM and perceptual distances of upscalers on test sets")
    evaluate_upscale.add_arguments(upscale)
    style = kinds.add_parser(
        "style", help="how many iterations of optimization one pass of a style is worth, and how much faster it is"
    )
    evaluate_style.add_arguments(style)
