"""Perceptual Style: fast neural style transfer and perceptual super-resolution for ComfyUI, Python and the command line.

In ComfyUI this folder is a custom node; installed with pip it is the package ``perceptual_style``. Nothing is imported
here: the host calls `comfy_entrypoint`, Python users import ``perceptual_style.core``.
"""

WEB_DIRECTORY = "./web"  # nothing but docs/<node id>.md, the help pages


async def comfy_entrypoint():
    """What ComfyUI calls to get the nodes."""
    from .nodes import PerceptualStyleExtension

    return PerceptualStyleExtension()


def __getattr__(name):
    if name == "__version__":
        from .core.version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
