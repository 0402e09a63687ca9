"""predict_scales(): what theory expects of a net's layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from initfast.prediction.prediction import Prediction
from initfast.profiling.profile import profile


def predict_scales(net: Callable[..., Any], x: Any) -> Prediction:
    """Where theory expects the scale of every layer, beside the measured one; print the result.

    The net runs once, as by :func:`initfast.profile`; of the run the prediction takes the moments
    of the net's input and of its weights. `report.predicted` is the same of a report that is there.

    Args:
        net: a module or any callable, as :func:`initfast.profile` takes it.
        x: its input.

    Returns:
        The :class:`~initfast.prediction.prediction.Prediction`: for each layer a cumulative
        estimate from the net's input, with a band for the finite width, and a local one from the
        layer's measured input; or a remark that says why there is none.

    Raises:
        Exception: whatever :func:`initfast.profile` raises.

    Source:
        Poole et al. 2016 and Schoenholz et al. 2017, the mean of many draws; Hanin & Nica 2020, how
        far one draw lies from it.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU())
        >>> _ = nn.init.ones_(net[0].weight)  # no draw of independent weights
        >>> first = initfast.predict_scales(net, torch.ones(8, 64))["0"]
        >>> first.rms
        64.0
    """
    return profile(net, x).predicted
