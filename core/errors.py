"""The error types. Caller mistakes are ValueErrors with a message that says what was expected, what came and what to do."""


class PerceptualStyleError(Exception):
    """Anything this package refuses or cannot finish; ``str()`` is one line meant for the user."""


class InputError(PerceptualStyleError, ValueError):
    """An argument of the wrong kind, shape or range."""


class ArchError(InputError):
    """An arch string that cannot be parsed, or that describes no usable network."""


class ImageError(InputError):
    """An image file that cannot be read or written, or an image tensor of the wrong form."""


class CheckpointError(InputError):
    """A file of weights that cannot be read, or does not hold what was asked for."""


class HubError(CheckpointError):
    """A download from the Hugging Face Hub that did not succeed, or weights that were never downloaded."""


class TrainingError(PerceptualStyleError):
    """A training or an optimization that cannot go on: the objective is not finite, or the checkpoint belongs to another run."""


class Cancelled(PerceptualStyleError):
    """Raised by a progress callback to stop the work; training keeps a checkpoint first."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
