"""The errors of bad arguments, in the kinds that torch raises for them."""

from __future__ import annotations


class ArgumentError(ValueError, RuntimeError):
    """A bad argument: torch.nn.init raises ValueError for some, RuntimeError for others."""


class TensorError(ArgumentError, NotImplementedError):
    """A tensor of a dtype or layout that cannot be filled: torch raises NotImplementedError."""


def kind_of(value: object) -> str:
    """What a value is, to say so in an error: "a Linear", "the class Linear", "None"."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def add_note(error: Exception, text: str) -> None:
    """Add a line to what an error says; its type and message stay."""
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{text}", *error.args[1:])


def notes_of(error: Exception) -> list[str]:
    """What was added to what an error says; before Python 3.11 with its message."""
    return [note for note in getattr(error, "__notes__", error.args) if isinstance(note, str)]
