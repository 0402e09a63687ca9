"""What an error is in one line, whatever Python and torch add to it."""

from initfast.cli.failure import one_line
from initfast.nets.names import is_blamed


def test_calls_of_torchs_own_are_left_out():
    error = TypeError("randn(): no\nException raised from unpack at x.cpp:1\nframe #0: c10::Error")
    assert one_line(error) == "TypeError: randn(): no"


def test_an_error_is_blamed_on_a_layer_by_a_note_or_by_its_message():
    """Before Python 3.11 errors have no notes."""
    said = "initfast.profile: raised in layer 'fc'"
    noted = RuntimeError("shapes")
    noted.__notes__ = [said]
    assert is_blamed(noted) and is_blamed(RuntimeError(f"shapes\n{said}"))
    assert not is_blamed(RuntimeError("shapes"))
