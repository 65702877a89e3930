"""Perceptual Style: fast neural style transfer and perceptual super-resolution for ComfyUI, Python and the command line.

In ComfyUI this folder is a custom node. Installed with pip it is the package ``perceptual_style``. This file imports
nothing: ComfyUI calls `comfy_entrypoint`, and Python users import ``perceptual_style.core``.
"""

WEB_DIRECTORY = "./web"  # only the help pages, docs/<node id>.md and docs/<node id>/<language>.md, and pictures


async def comfy_entrypoint():
    """Return the extension with the nodes. ComfyUI calls this."""
    from .nodes import PerceptualStyleExtension

    return PerceptualStyleExtension()


def __getattr__(name):
    if name == "__version__":
        from .core.version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
