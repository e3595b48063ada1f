"""What can be wrong with a checkpoint."""

from __future__ import annotations

from asgfn.errors import AsgError


class CheckpointError(AsgError, ValueError):
    """A checkpoint cannot be loaded."""


class DamagedCheckpointError(CheckpointError):
    """A file is truncated, altered, or no file of this kind."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint is sound, but its content does not have the structure, shapes and dtypes that were asked for."""


class DamagedCheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over for another one."""
