"""What is changed in torch while a profile runs."""

import torch.utils.checkpoint

from initfast.interception.torch_patches import NON_REENTRANT_CHECKPOINTS
from initfast.undo_log import UndoLog


def test_checkpoints_are_put_back_by_whoever_leaves_last():
    checkpoint = torch.utils.checkpoint
    before = checkpoint.CheckpointFunction
    first, last = UndoLog(), UndoLog()
    NON_REENTRANT_CHECKPOINTS.make(first)
    inside = checkpoint.CheckpointFunction
    NON_REENTRANT_CHECKPOINTS.make(last)
    first.undo()
    assert checkpoint.CheckpointFunction is inside is not before
    last.undo()
    assert checkpoint.CheckpointFunction is before
