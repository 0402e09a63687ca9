"""A callback for Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from initfast.integrations.training_steps import TrainingSteps


class InitfastCallback(Callback):
    """Logs the scale of every layer's output, gradient, weight and update, every n-th step.

    It calls the `log_metrics` of all of the Trainer's loggers. With `accumulate_grad_batches` a
    step has several batches: they are measured as one, and the update is counted once.

    Args:
        every: measure one optimiser step out of so many.

    Attributes:
        steps: its `report` and `scalars` are those of the last step that was measured.

    Example:
        >>> from initfast.integrations.lightning import InitfastCallback
        >>> callback = InitfastCallback(every=100)  # Trainer(callbacks=[callback])
    """

    def __init__(self, every: int = 100) -> None:
        self.steps = TrainingSteps(every)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """A micro-batch begins."""
        self.steps.begin(pl_module, trainer.global_step)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """All gradients are there."""
        self.steps.before_update()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A micro-batch is over, and the update if it was the last of its step."""
        if self.steps.end():
            for logger in trainer.loggers:
                logger.log_metrics(self.steps.scalars, step=trainer.global_step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Training has ended early."""
        self.steps.close()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Training is over."""
        self.steps.close()
