"""A slice of benchmarks/training.py: ours trains a deep plain net, torch's default does not."""

import runpy
from pathlib import Path

TRAINING = Path(__file__).parents[2] / "benchmarks" / "training.py"


def test_a_deep_relu_net_trains_from_ours_and_not_from_torchs_default():
    """200 steps with seed 0 give 0.53 and 0.10, where chance is 0.1."""
    command = runpy.run_path(str(TRAINING))
    data = command["digits"]()
    net = "ReLU MLP, 50 layers"
    assert command["accuracy"](net, "initialize_", 0, data, steps=200) > 0.35
    assert command["accuracy"](net, "torch", 0, data, steps=50) < 0.2


def test_every_net_runs_from_every_initialisation():
    command = runpy.run_path(str(TRAINING))
    data = command["digits"]()
    assert len(data.x) + len(data.test_x) == 1797
    for net in command["NETS"]:
        for initialisation in ("N(0, 1)", "lsuv_"):
            assert 0 <= command["accuracy"](net, initialisation, 0, data, steps=1) <= 1
