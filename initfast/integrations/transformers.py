"""A callback for Hugging Face's Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from initfast.integrations.training_steps import Log, TrainingSteps


class InitfastCallback(TrainerCallback):
    """Measures the scale of every layer's output, gradient, weight and update, every n-th step.

    With `gradient_accumulation_steps` a step has several batches: they are measured as one, and the
    update is counted once. Gradients of updates are those after clipping.

    Args:
        every: measure one optimiser step out of so many.
        log: is called with the scalars and the step, as an
            `initfast.integrations.tensorboard.TensorBoardLogger` is; None: they are kept in `steps`
            alone.

    Attributes:
        steps: its `report` and `scalars` are those of the last step that was measured.

    Example:
        >>> from initfast.integrations.transformers import InitfastCallback
        >>> callback = InitfastCallback(every=100)  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, every: int = 100, log: Log | None = None) -> None:
        self.steps = TrainingSteps(every)
        self._log = log

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimiser step begins."""
        self.steps.begin(kwargs["model"], state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All gradients are there."""
        self.steps.before_update()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The update is done."""
        if self.steps.end() and self._log is not None and state.is_world_process_zero:
            self._log(self.steps.scalars, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Training is over."""
        self.steps.close()
