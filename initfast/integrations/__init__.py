"""initfast in other libraries' training loops and loggers: a module for each, imported by name.

initfast.integrations.lightning       a callback for Lightning's Trainer
initfast.integrations.transformers    a callback for Hugging Face's Trainer
initfast.integrations.tensorboard     a logger for TensorBoard
initfast.integrations.wandb           a logger for Weights & Biases
"""
