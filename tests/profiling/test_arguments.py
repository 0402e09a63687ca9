"""What profile() and Profiler are asked: one checked record each."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from torch import nn

import initfast
from initfast.profiling import profile as profile_module
from initfast.profiling.arguments import ProfileArguments, ProfilerArguments
from initfast.profiling.profile import profile

RECORDS = {
    "profile": (initfast.profile, ProfileArguments),
    "Profiler": (initfast.Profiler, ProfilerArguments),
}


@pytest.mark.parametrize("public, record", RECORDS.values(), ids=RECORDS)
def test_an_option_is_an_argument_with_its_line_and_a_field(public, record):
    """Of the same name, place, type and default."""
    arguments = inspect.signature(public).parameters
    assert arguments == inspect.signature(record).parameters
    described = inspect.getdoc(public).split("\nArgs:\n")[1]
    assert all(f"\n    {name}: " in f"\n{described}" for name in arguments)
    assert [field.name for field in fields(record)] == list(arguments)


def test_every_argument_of_profile_arrives(monkeypatch):
    class Arrived(Exception):
        pass

    def record(**given):
        raise Arrived(given)

    monkeypatch.setattr(profile_module, "ProfileArguments", record)
    given = {name: object() for name in inspect.signature(profile).parameters}
    with pytest.raises(Arrived) as caught:
        profile(**given)
    assert caught.value.args[0] == given


def test_a_record_stays_as_it_was_asked():
    for record in (ProfileArguments(nn.Tanh(), torch.ones(2)), ProfilerArguments(nn.Tanh())):
        for field in fields(record):
            with pytest.raises(FrozenInstanceError):
                setattr(record, field.name, None)


@pytest.mark.parametrize(
    "record, arguments, words",
    [
        (ProfileArguments, {"net": 1}, "profile: net is a int; expected a module or a callable"),
        (
            ProfileArguments,
            {"loss": 1},
            "profile: loss is a int; expected a function of the net's output",
        ),
        (
            ProfileArguments,
            {"targets": 1},
            "profile: targets is given without a loss; expected loss= as",
        ),
        (
            ProfileArguments,
            {"scaler": 1},
            "profile: scaler is given without a loss; expected loss= as",
        ),
        (
            ProfileArguments,
            {"loss": sum, "scaler": 1},
            "profile: scaler is a int; expected a torch.amp.G",
        ),
        (ProfilerArguments, {"net": sum}, "Profiler: net is a builtin_function.*; expected a mod"),
        (ProfilerArguments, {"every": True}, "Profiler: every is True; expected a whole number"),
        (ProfilerArguments, {"scaler": 1}, "Profiler: scaler is a int; expected a torch.amp.Grad"),
    ],
)
def test_its_fields_are_checked_as_it_is_made(record, arguments, words):
    usual = {"net": nn.Tanh(), "x": 1} if record is ProfileArguments else {"net": nn.Tanh()}
    with pytest.raises(TypeError, match=words):
        record(**{**usual, **arguments})
