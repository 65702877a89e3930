"""Many prompts to one host. Its memory and open files must not grow."""

from __future__ import annotations

import os
import time

import psutil
import pytest

pytestmark = [pytest.mark.host, pytest.mark.slow]

PROMPTS = int(os.environ.get("SOAK_PROMPTS", "1000"))
WARM_UP, EACH = 50, 50  # prompts until everything is loaded, and between two measurements
MEGABYTES = 50


def test_memory_and_open_files_do_not_grow(comfyui, style, put_style, put_upscaler):
    """Each prompt has a new image, so that none is cached, and alternates between two styles and upscalers."""
    put_style("soak.safetensors")
    upscalers = [put_upscaler(f"soak_{scale}.safetensors", scale) for scale in (2, 4)]
    process = psutil.Process(comfyui.process.pid)
    looks: list[tuple[int, float, int]] = []
    began = time.monotonic()
    for first in range(0, PROMPTS, EACH):
        numbers = range(first, min(first + EACH, PROMPTS))
        prompts = [
            comfyui.submit(_graph(number, (style, "soak.safetensors")[number % 2], upscalers[number % 2]))
            for number in numbers
        ]
        for prompt in prompts:
            entry = comfyui.wait(prompt)
            assert entry["status"]["status_str"] == "success", entry["status"]
            assert len(entry["outputs"]["6"]["images"]) == 1
            assert not {"1", "3", "5"} & set(entry["messages"]["execution_cached"]["nodes"])
        files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        looks.append((numbers.stop, process.memory_info().rss / 2**20, files))
    table = "\n".join(f"{done:5} prompts: {memory:7.1f} MB, {files} open files" for done, memory, files in looks)
    print(f"\n{table}\n{time.monotonic() - began:.0f} s")
    steady = [look for look in looks if look[0] >= WARM_UP]
    _, memory, files = steady[0]
    assert all(abs(look[1] - memory) <= MEGABYTES for look in steady), table
    assert steady[-1][2] <= files + 2, table


def _graph(number: int, style: str, upscaler: str) -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": number}},
        "2": {"class_type": "LoadStyleModel", "inputs": {"style": style}},
        "3": {"class_type": "FastStylize", "inputs": {"image": ["1", 0], "style_model": ["2", 0]}},
        "5": {
            "class_type": "PerceptualUpscale",
            "inputs": {"image": ["3", 0], "model": upscaler, "fidelity": 0.0, "match_colors": False},
        },
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "soak/image"}},
    }
