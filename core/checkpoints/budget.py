"""The limit on what a single file may cost: all readers of a file draw on one budget.

A small file can claim a lot: a list that is copied a thousand times, constants that are computed from each other. Limits
for each operation do not add up to a limit for the file. This one does.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError

_OPERATIONS = 400_000  # about a second; a network takes a few thousand
_FREE_BYTES, _BYTES_PER_BYTE = 2**24, 4  # tied weights share their bytes, and float16 becomes float32


class Budget:
    """The operations and bytes that reading a file may still take.

    Args:
        size: bytes of the file
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.operations, self.bytes = _OPERATIONS, _FREE_BYTES + _BYTES_PER_BYTE * size

    @classmethod
    def of(cls, path: str | Path) -> Budget:
        """Return the budget of a file."""
        return cls(Path(path).stat().st_size)

    def spend(self, operations: int = 1, size: int = 0) -> None:
        """Take operations and bytes from the budget, before they are used.

        Raises:
            CheckpointError: if nothing is left; the caller adds the file's name
        """
        self.operations -= operations
        self.bytes -= size
        if self.operations < 0:
            raise CheckpointError(
                f"it takes more than {_OPERATIONS} operations to read, far more than any network needs"
            )
        if self.bytes < 0:
            raise CheckpointError(f"its tensors claim far more than its {self.size} bytes")
