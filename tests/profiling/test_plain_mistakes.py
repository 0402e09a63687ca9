"""What a plain mistake is told: what was given, and what was expected."""

import pytest
import torch
from torch import nn

import initfast
from initfast.errors import ArgumentError

NET = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
X = torch.ones(8, 4)
REPORT = initfast.profile(NET, X)


class Net(nn.Linear):
    pass


def generates(x):
    yield NET(x)


MISTAKES = {
    "a class as net": (lambda: initfast.profile(Net, X), "profile: net is the class Net; .* Net()"),
    "a class to check": (lambda: initfast.assert_healthy(Net, X), "net is the class Net"),
    "a class to audit": (lambda: initfast.audit(Net), "net is the class Net; expected"),
    "a class to fill": (lambda: initfast.initialize_(Net), "net is the class Net; expected"),
    "a class to repair": (lambda: initfast.repair_(Net, X), "net is the class Net; expected"),
    "a class to scale": (lambda: initfast.lsuv_(Net, X), "net is the class Net; expected"),
    "a loss class": (
        lambda: initfast.profile(NET, X, loss=nn.MSELoss, targets=X),
        r"loss is the class MSELoss; expected an instance of it, such as MSELoss\(\)",
    ),
    "a module to fill": (
        lambda: initfast.init.kaiming_normal_(NET[0]),
        "kaiming_normal_: tensor is a Linear; expected one of its parameters, such as .weight",
    ),
    "nothing to fill": (lambda: initfast.init.zeros_(None), "zeros_: tensor is None; expected a"),
    "an array to fill": (lambda: initfast.init.normal_(X.numpy()), "tensor is a ndarray; expected"),
    "a module's fans": (lambda: initfast.init.fan_in_and_fan_out(NET), "is a Sequential; expected"),
    "a text to measure": (lambda: initfast.ops.moments("x"), "moments: x is a str; expected a ten"),
    "nothing to act on": (lambda: initfast.ops.act(None, "relu"), "act: z is None; expected a ten"),
    "no weight": (lambda: initfast.ops.linear_act(X, None), "weight is None; expected a tensor"),
    "a key of no kind": (lambda: REPORT[None], "is given None; expected a layer's name"),
    "too long a key": (lambda: REPORT["0", 0, 0, 0], "is given a tuple; expected a layer's name"),
    "a type to select": (lambda: REPORT.select(nn.Linear), "name is the class Linear; expected a"),
    "a net to merge": (lambda: REPORT.merge(NET), "other is a Sequential; expected a Report"),
    "a net to judge": (lambda: initfast.diagnose(NET), "report is a Sequential; expected a Report"),
    "a net to place": (
        lambda: initfast.init.normal_(X.clone(), place=NET),
        "(?s)place is .*; expected an initfast.init.Place",
    ),
    "axes in a list": (
        lambda: initfast.init.xavier_normal_(X.clone(), axes=["out", "in"]),
        "axes is .*; expected a word for each dimension",
    ),
    "a text of thresholds": (
        lambda: initfast.diagnose(REPORT, "dead_units"),
        "diagnose: thresholds is a str; expected a dict",
    ),
    "reports to compare": (
        lambda: initfast.assert_same_init(REPORT, REPORT),
        "assert_same_init: net is a Report; expected a torch.nn.Module",
    ),
    "names in a tuple": (
        lambda: initfast.assert_same_init(NET, NET, rename=("0", "1")),
        "rename is a tuple; expected a dict of names or a function",
    ),
    "rules in a list": (
        lambda: initfast.initialize_(NET, rules=[nn.Linear]),
        "rules is a list; expected a dict of functions by patterns",
    ),
    "findings to ignore": (
        lambda: initfast.assert_healthy(NET, X, ignore=[REPORT]),
        "ignore has a Report; expected names of checks",
    ),
    "nothing to zero": (lambda: initfast.ops.zero_rows_(None, 1, 2), "out is None; expected a ten"),
    "a type as key": (lambda: REPORT[int], "is given the class int; expected a layer's name"),
    "a number to include": (lambda: initfast.profile(NET, X, include=3), "include is 3; expected"),
}


@pytest.mark.parametrize("make, words", MISTAKES.values(), ids=MISTAKES)
def test_a_value_of_a_wrong_kind(make, words):
    with pytest.raises((TypeError, ArgumentError), match=words):
        make()


@pytest.mark.parametrize(
    "x, words",
    [
        ([X[0], X[1]], "input is a list; expected a tensor, as torch.stack"),
        (X.numpy(), "input is a ndarray; expected a tensor, as torch.as_tensor"),
        ((X.numpy(),), "input is a ndarray; expected a tensor, as torch.as_tensor"),
        (None, "input is None; expected a tensor, a tuple of arguments or a dict"),
        ("text", "input is a str; expected a tensor"),
    ],
)
def test_an_input_of_an_unusual_kind_is_told_where_the_net_raises(x, words):
    with pytest.raises(TypeError) as caught:
        initfast.profile(NET, x)
    notes = getattr(caught.value, "__notes__", caught.value.args)
    assert words in "\n".join(notes)
    assert initfast.profile(lambda given: NET(X), x).layers  # a net may take it


def test_a_place_that_is_not_there():
    with pytest.raises(IndexError, match=r"report\[99\]: the report has 2 layers, 0 to 1"):
        REPORT[99]
    with pytest.raises(IndexError, match="the report has no layers"):
        REPORT.select("none")[0]
    assert REPORT[-1] is REPORT[1] is REPORT[torch.tensor(1)]


def test_a_selection_of_nothing_says_what_there_is():
    chosen = REPORT.select("encoder.*", depth=1)
    assert chosen.layers == []
    said = "No layer fits select(name='encoder.*', depth=1); the names are '0', '2'."
    assert said in str(chosen)


def test_a_generator_function_is_told_how_to_be_measured():
    assert "lambda x: list(f(x))" in " ".join(initfast.profile(generates, X).notes)
    assert len(initfast.profile(lambda x: list(generates(x)), X)) == 2


@pytest.mark.parametrize("x", [-torch.ones(1, 4), -torch.ones(4)])
def test_a_single_sample_tells_of_no_dead_units(x):
    report = initfast.profile(NET, x)
    assert report["0"].dead_units is None
    (said,) = [c.reason for c in report.skipped_checks if c.rule == "dead_units"]
    assert "1 layers have one value a unit, as of a single sample: pass a batch of" in said
    assert "dead units" in report.verdict
    # Two of them together tell.
    both = report.merge(report) if x.dim() == 2 else initfast.profile(NET, torch.stack([x, x]))
    assert both["0"].dead_units is not None and both["0"].units == 4
