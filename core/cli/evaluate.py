"""The command ``evaluate``, with one subcommand for each kind of measurement."""

from __future__ import annotations

import argparse

from . import evaluate_style, evaluate_upscale


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the kinds of measurements and their options."""
    command.description = "Measure networks as the papers do, and write tables and pictures."
    kinds = command.add_subparsers(title="what to measure", required=True, metavar="KIND")
    upscale = kinds.add_parser("upscale", help="PSNR, SSIM and perceptual distances of upscalers on test sets")
    evaluate_upscale.add_arguments(upscale)
    style = kinds.add_parser(
        "style", help="styles by a yardstick that is the same for all; what one pass is worth in optimization"
    )
    evaluate_style.add_arguments(style)
