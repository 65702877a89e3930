"""The error types. Mistakes of the caller are ValueErrors whose message says what was expected, what came, what to do."""


class PerceptualStyleError(Exception):
    """Anything that this package rejects or cannot finish. ``str()`` is one line meant for the user."""


class InputError(PerceptualStyleError, ValueError):
    """An argument of the wrong kind, shape or range."""


class ArchError(InputError):
    """An arch string that cannot be parsed, or that describes no usable network."""


class ImageError(InputError):
    """An image file that cannot be read or written, or an image tensor of the wrong form."""


class CheckpointError(InputError):
    """A file of weights that cannot be read, or that lacks the requested weights."""


class NetworkError(InputError):
    """A network whose result has values that are nan or infinite."""


class HubError(CheckpointError):
    """A download from the Hugging Face Hub that failed, or weights that were never downloaded."""


class TrainingError(PerceptualStyleError):
    """A training run or an optimization that cannot continue.

    Either the objective is not finite, or the checkpoint belongs to another run.
    """


class Cancelled(PerceptualStyleError):
    """Raised by a progress callback to stop the work. A training run saves a checkpoint first."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
