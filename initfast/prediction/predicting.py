"""predicted(): a report's layers, each with what theory expects of it."""

from __future__ import annotations

from collections.abc import Sequence

from initfast.prediction.prediction import Estimate, PredictedLayer, Prediction
from initfast.prediction.rules import Outcome, family, outcome
from initfast.prediction.signal import Signal, fits, measured
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments


def predicted(layers: Sequence[Layer], inputs: Sequence[Moments]) -> Prediction:
    """What theory expects of every layer, from the net's input and from the layer's own.

    Args:
        layers: of a report, in execution order.
        inputs: the moments of the net's inputs.
    """
    walk = _Walk(layers, inputs)
    after = [*layers[1:], None][: len(layers)]
    steps = zip(layers, after, strict=True)
    return Prediction([walk.step(layer, then) for layer, then in steps])


class _Walk:
    """Goes through the layers; who made what they take is told by the moments."""

    def __init__(self, layers: Sequence[Layer], inputs: Sequence[Moments]) -> None:
        self._known: dict[tuple[float, ...], Signal] = {}
        self._shapes: dict[tuple[float, ...], tuple[int, ...]] = {}
        self._silent: dict[tuple[float, ...], Layer] = {}  # what made what no signal is known of
        self._last: Layer | None = None
        first = next((x for x in layers if x.input_shape), None)
        units = first.input_shape[-1] if first is not None and first.input_shape else 1
        if first is not None and first.weight is not None:
            units = first.weight.fan_in
        for m in inputs:
            if m.finite and fits(m):
                self._known[m.fingerprint] = measured(m, units)

    def step(self, layer: Layer, after: Layer | None) -> PredictedLayer:
        """The next layer's prediction."""
        ahead = after is not None and after.pre is not None and layer.input is None
        if ahead and layer.weight is None and after.pre == layer.post:  # type: ignore[union-attr]
            return PredictedLayer(layer, remark="it is the next layer's pre-activation")
        given = [m for m in layer.inputs if m.finite and fits(m)]
        keys = [m.fingerprint for m in given]
        new = [key for key in keys if key not in self._known]
        for key, m in zip(keys, given, strict=True):
            if key not in self._known:
                self._known[key] = self._unexplained(layer, m)
        signals = [self._as_taken(layer, key) for key in keys]
        own = [x.as_measured(m) for x, m in zip(signals, given, strict=True)]
        whole, local = outcome(layer, signals), outcome(layer, own)
        restarts = bool(new) and self._last is not None
        remark = whole.reason or (self._what_made(new) if restarts else "")
        self._keep(layer, whole)
        return _told(layer, whole, local, remark, restarts)

    def _as_taken(self, layer: Layer, key: tuple[float, ...]) -> Signal:
        """The signal of this tensor, which may have been transposed on the way to the layer."""
        signal, made = self._known[key], self._shapes.get(key, ())
        given = layer.input_shape or layer.shape
        if len(made) > 2 and given != made and given == (*made[:-2], made[-1], made[-2]):
            return signal.transposed(given[-1])
        return signal

    def _unexplained(self, layer: Layer, m: Moments) -> Signal:
        """What other functions have made: places of one sample may be alike, as attention's are."""
        shape = layer.input_shape or layer.shape
        rows = shape[0] if len(shape) > 1 and family(layer.op) != "Conv" else 1
        units = layer.weight.fan_in if layer.weight else (shape[-1] if shape else 1)
        return measured(m, units, max(rows, 1))

    def _keep(self, layer: Layer, found: Outcome) -> None:
        self._last = layer
        for m, signal in ((layer.pre, found.pre), (layer.post, found.post)):
            if m is None or not m.finite:
                continue
            if signal is not None:
                self._known[m.fingerprint] = signal
                self._shapes[m.fingerprint] = layer.shape
            elif m is layer.post:
                self._silent[m.fingerprint] = layer

    def _what_made(self, new: Sequence[tuple[float, ...]]) -> str:
        """Where an input comes from that no signal is known of."""
        found = next((self._silent[key] for key in new if key in self._silent), None)
        if found is not None:
            what = f"from {found.op} at {found.name!r}, of which theory says nothing"
        else:
            last = self._last
            after = f" after {last.name!r} ({last.op})" if last is not None else ""
            what = f"from functions that are not measured,{after}"
        return f"its input comes {what}: predicted anew from the input's measured moments"


def _told(
    layer: Layer, whole: Outcome, local: Outcome, remark: str, restarts: bool
) -> PredictedLayer:
    signals = (whole.post, local.post, whole.pre, local.pre)
    post, own, pre, own_pre = (None if x is None else Estimate.of(x) for x in signals)
    return PredictedLayer(layer, post, own, pre, own_pre, remark, restarts)
