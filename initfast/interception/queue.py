"""What was asked for and waits: results without values, and results that are not measured yet.

Three things wait, each for as long as nobody can tell:

- A linear layer that has not run: whether an activation follows decides how it runs. Any other use
  of its result runs it, and records it, as it is.
- A small linear layer and its activation: pairs that follow each other run as one chain. Pairs run
  in the order in which they were asked for.
- A result with values, of a convolution, a norm or a sum: if an activation follows, it takes the
  moments of both in one read. Anything else that runs next has it measured first.

What waits is computed before anything that might change the memory it depends on. A pre-activation
that is used again is computed again, and not recorded again. On a card it runs on the stream that
it was asked for on, and each stream that uses it waits for it. Where gradients flow a pair
that runs while somebody has its pre-activation runs by torch's functions: it is in the graph
between them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from threading import RLock
from typing import Any

from torch import Tensor
from torch.utils import swap_tensors

from initfast.interception.deferred_tensor import DeferredTensor, LinearCall, Link
from initfast.interception.undisturbed import run_undisturbed, run_with_graph
from initfast.nets.activation_calls import NO_ACTIVATION, Call
from initfast.ops.activations import ACTIVATIONS
from initfast.ops.dispatch import LINEAR_ACT
from initfast.recording.events import Source
from initfast.recording.recorder import Recorder
from initfast.recording.stop_at_nonfinite import NonFinite
from initfast.recording.streams import HERE, on_stream, stream_of
from initfast.torch_state import grad_enabled, torchs_linear


class Queue:
    """Runs and records what waits.

    Args:
        recorder: keeps what is measured.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # Held while what waits changes: another thread may use a result at any time.
        self.lock: AbstractContextManager[Any] = RLock()
        # What nothing has used yet, by id, kept alive by its entry: the results of linear layers
        # that have not run; what has its values and is not measured.
        self._linears: dict[int, tuple[DeferredTensor, Link]] = {}
        self._made: dict[int, tuple[Tensor, Source, Any, int | None, list[str]]] = {}
        # Linear layers and their activations that have not run, in order.
        self._chain_links: list[Link] = []
        self._unit_dims: dict[int, int] = {}  # of the last layer, by its count of dimensions
        # Pre-activations without a value whose activation has run; then those with a value.
        self._consumed: list[weakref.ref[DeferredTensor]] = []
        self.settled: list[weakref.ref[DeferredTensor]] = []
        self._held: list[DeferredTensor] = []  # by user code, in the end

    # ---- what comes to wait ----

    def linear(self, linear: LinearCall) -> DeferredTensor:
        """The result of a linear layer, which runs when its activation does or it is used."""
        with self.lock:
            link, x = Link(linear, None), linear.x
            z = link.stand_in(self)
            if type(x) is Link:
                x.readers += 1
                x.reader = link.tensor
            self._linears[id(z)] = (z, link)
            self._unit_dims[len(linear.shape)] = -1
            return z

    def keep(self, source: Source, y: Tensor, kernels: Any) -> None:
        """An output to measure with the activation that follows, or before anything else runs.

        What waited before it was made has been recorded. The kernels are those that take it.
        """
        self._made[id(y)] = (y, source, kernels, stream_of(y.device), [])
        self._unit_dims[y.dim()] = source.unit_dim

    def activated(
        self, z: DeferredTensor, call: Call, takes: Callable[[bool], bool]
    ) -> Tensor | None:
        """The activation of a linear layer that waits.

        Args:
            z: the layer's result.
            call: the activation.
            takes: whether the two may run as one, where the layer has a graph and where not.

        Returns:
            Its result; None where z does not wait, or they may not.
        """
        with self.lock:
            if (entry := self._linears.get(id(z))) is None or not takes(entry[1].linear.has_graph):
                return None
            link = entry[1]
            if link.linear.stream != stream_of(link.linear.weight.device):
                return None
            del self._linears[id(z)]
            if not call.in_place:
                self._consumed.append(link.tensor)
                waits = link.linear.small and not (self._recorder.stops or grad_enabled())
                if waits or link.linear.has_graph:  # a graph's gradients are enabled still
                    return self._chain(z, link.linear, call)
            self.record()
            x, kernels = self._input(link), link.linear.kernels
            layer = link.layer()._replace(call=call, also=(), pre_also=link.also)
            if link.linear.has_graph:
                y = self._recorder.linear_act_with_graph(x, kernels, [layer])
            else:
                y = self._recorder.linear_act(x, kernels, layer)
            if call.in_place:
                z.settle(y)
            return y

    def _chain(self, z: DeferredTensor, linear: LinearCall, call: Call) -> DeferredTensor:
        """Defer the activation of a linear layer too."""
        if not (self._chain_links and linear.small):
            self.record()
        pair = Link(linear, call)
        pair.pre = z.link.tensor
        pair.pre_also = z.link.also
        self._chain_links.append(pair)
        return pair.stand_in(self)

    # ---- what is known of it ----

    def take(self, z: Tensor) -> tuple[Source | None, Sequence[str]]:
        """What made a result that waited with its values, if it did, and whose output it is too."""
        entry = self._made.pop(id(z), None)
        return (None, ()) if entry is None else (entry[1], entry[4])

    def awaits(self, t: Tensor, name: str | None = None) -> bool:
        """Whether t will be measured when it is used; it then is the named module's output too."""
        if type(t) is not DeferredTensor and id(t) not in self._made:
            return False
        with self.lock:
            if type(t) is DeferredTensor:
                if not (t.is_in_chain() or id(t) in self._linears):
                    return False
                t.link.also += () if name is None else (name,)
            elif (entry := self._made.get(id(t))) is None:
                return False
            elif name is not None:
                entry[4].append(name)
            return True

    def unit_dim(self, t: Tensor) -> int:
        """Which dimension of t counts the units: as in the last layer of as many dimensions."""
        return self._unit_dims.get(t.dim(), -1)

    # ---- running and recording ----

    def record(self) -> None:
        """Run and measure, in order, all that waits but linear layers whose activation may follow.

        Results with values and deferred layers never wait at the same time.
        """
        if self._chain_links or self._made:
            run_undisturbed(self.record_undisturbed)

    def record_undisturbed(self) -> None:
        """Likewise, where no function mode, transform or cast applies."""
        if self._chain_links:
            with self.lock:
                self._run_chains()
        elif self._made:
            with self.lock:
                made, self._made = self._made, {}
                for z, source, kernels, stream, also in made.values():
                    with HERE if stream is None else on_stream(z.device, stream):
                        self._recorder.output(source, z, kernels)
                    for name in also:
                        self._recorder.also(name, z)

    def run(self) -> None:
        """Run the linear layers whose activations have been asked for."""
        if self._chain_links:
            self.record()

    def settle(self) -> None:
        """Compute and record whatever waits: what follows may write to memory."""
        self._recorder.writes += 1
        if self._chain_links or self._made:
            self.record()
        if not (self._linears or self._consumed):
            return
        with self.lock:
            for waiting, _ in list(self._linears.values()):
                waiting.resolve()
            consumed, self._consumed = self._consumed, []
            for ref in consumed:
                if (z := ref()) is not None:
                    z.resolve()

    def release(self) -> None:
        """Turn every DeferredTensor that user code still holds into an ordinary tensor."""
        refs, held = [*self._consumed, *self.settled], self._held  # with what an interrupt left
        held += [z for z, _ in self._linears.values()]
        held += [z for ref in refs if (z := ref()) is not None]
        held += [z for link in self._chain_links if (z := link.tensor()) is not None]
        refs.clear()
        self._linears, self._made = {}, {}
        self._consumed, self.settled = [], []
        for z in held:
            z.has_graph = False
        while held:
            z = held[-1]
            # What the layer cannot compute now, it raises when the tensor is used; a tensor that
            # user code has weak references to stays a DeferredTensor, which serves as well.
            with suppress(Exception, NonFinite):
                value = z.resolve()
                self.settled.clear()
                alias = value.view_as(value) if value.requires_grad else value.detach()
                swap_tensors(z, alias)
            held.pop()

    def evaluate(self, z: DeferredTensor) -> Tensor:
        """Run what a DeferredTensor stands for; record it unless that has been done."""
        link, waits = z.link, self._linears.pop(id(z), None) is not None
        if waits or self._chain_links:
            self.record_undisturbed()
        with link.linear.on_its_stream():
            if not waits:
                return self._value(link) if z.value is None else z.value
            if link.linear.has_graph:
                y = self._value(link)
                self._recorder.output(self._source(link), y)
                for name in link.also:
                    self._recorder.also(name, y)
            else:
                x, kernels = self._input(link), link.linear.kernels
                y = self._recorder.linear_act(x, kernels, link.layer())
        return y

    def _input(self, link: Link) -> Tensor:
        x = link.linear.x
        return self._value(x) if isinstance(x, Link) else x

    def _source(self, link: Link) -> Source:
        x, own = self._input(link), link.linear
        rows = (self._recorder.row(x),)
        return Source("linear", own.name, x.shape, rows, self._recorder.weight(own.weight))

    def _value(self, link: Link) -> Tensor:
        """The result of a link, computed without a record where it is not known."""
        if link.value is None:
            x, own = self._input(link), link.linear
            if own.has_graph:
                assert link.call is None  # a pair with a graph has run, or nobody can ask for it
                return run_with_graph(torchs_linear, x, own.weight, own.bias)
            act, alpha, beta, _ = link.call or NO_ACTIVATION
            operands = x, own.weight, own.bias
            link.value = LINEAR_ACT(own.kernels, *operands, act, alpha, beta, False)[0]
        return link.value

    def _run_chains(self) -> None:
        """Each stretch of what is deferred that feeds but itself runs as one operator."""
        links, self._chain_links = self._chain_links, []
        start = 0
        for end, link in enumerate(links, start=1):
            pre = link.pre() if link.linear.has_graph else None
            if pre is None and end < len(links) and link.feeds_only(links[end]):
                continue
            with link.linear.on_its_stream():
                self._run_chain(links[start:end], pre)
            start = end

    def _run_chain(self, chain: Sequence[Link], pre: DeferredTensor | None) -> None:
        """Links that feed but each other; the pre-activation of the last if somebody has it."""
        x, kernels, link = self._input(chain[0]), chain[0].linear.kernels, chain[-1]
        layers = [pair.layer() for pair in chain]
        if pre is not None:  # a chain of its own: what feeds it feeds the pre-activation too
            link.value = run_with_graph(self._pair_by_torch, link, pre)
        elif chain[0].linear.has_graph:
            with_graph = self._recorder.linear_act_with_graph
            link.value = run_with_graph(with_graph, x, kernels, layers)
        else:
            link.value = self._recorder.linear_act_chain(x, kernels, layers)
        if (y := link.tensor()) is not None:
            y.settle(link.value)

    def _pair_by_torch(self, link: Link, pre: DeferredTensor) -> Tensor:
        """The result of a pair with a graph in which its pre-activation has its place."""
        z, call = self._value(pre.link), link.call or NO_ACTIVATION
        act = partial(ACTIVATIONS[call.act].value, z, call.alpha, call.beta)
        kernels, source = link.linear.kernels, self._source(pre.link)
        y = self._recorder.act(source, kernels, z, call, act, link.pre_also)
        pre.settle(z)
        for name in link.also:
            self._recorder.also(name, y)
        return y
