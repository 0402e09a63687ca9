"""What was asked for and waits: results without values, and results that are not measured yet.

Three things wait, each for as long as nobody can tell:

- A linear layer that has not run: whether an activation follows decides how it runs. Any other use
  of its result runs it, and records it, as it is.
- A small linear layer and its activation: pairs that follow each other run as one chain. Pairs run
  in the order in which they were asked for.
- A result with values, of a convolution, a norm or a sum: if an activation follows, it takes the
  moments of both in one read. Anything else that runs next has it measured first.

What waits is computed before anything that might change the memory it depends on. A pre-activation
that is used again after its activation is computed again, where gradients flow with a graph of its
own, and not recorded again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from threading import RLock
from typing import Any

from torch import Tensor
from torch.utils import swap_tensors

from initfast.interception.deferred_tensor import DeferredTensor, LinearCall, Link, Unseen
from initfast.interception.undisturbed import run_undisturbed, run_with_graph
from initfast.nets.activation_calls import NO_ACTIVATION, Call
from initfast.nets.names import NetNames
from initfast.ops.dispatch import LINEAR_ACT
from initfast.recording.events import Source
from initfast.recording.recorder import Linear, Recorder
from initfast.recording.stop_at_nonfinite import NonFinite
from initfast.torch_state import grad_enabled, torchs_linear


class Queue:
    """Runs and records what waits.

    Args:
        recorder: keeps what is measured.
        names: of the net's modules.
    """

    def __init__(self, recorder: Recorder, names: NetNames) -> None:
        self._recorder = recorder
        self._names = names
        # Held while what waits changes: another thread may use a result at any time.
        self.lock: AbstractContextManager[Any] = RLock()
        # Results that nothing has used yet, by id, kept alive by their entry: linear layers that
        # have not run, and what has its values and is not measured.
        self._unused: dict[int, tuple[Tensor, Any]] = {}
        # Linear layers and their activations that have not run, in order.
        self._chain_links: list[Link] = []
        self._also: dict[int, list[str]] = {}  # whose output a waiting result is too
        self._unit_dims: dict[int, int] = {}  # of the last layer, by its count of dimensions
        # Pre-activations without a value whose activation has run; then those with a value.
        self._consumed: list[weakref.ref[DeferredTensor]] = []
        self.settled: list[weakref.ref[DeferredTensor]] = []
        # Pre-activations whose activation leads past them in the graph.
        self._bypassed: list[weakref.ref[DeferredTensor]] = []
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
            self._unused[id(z)] = (z, link)
            self._unit_dims[len(linear.shape)] = -1
            return z

    def made(self, source: Source, y: Tensor) -> None:
        """An output to measure with the activation that follows, or before anything else runs."""
        self.record()
        self.keep(source, y)

    def keep(self, source: Source, y: Tensor) -> None:
        """Likewise, without recording first what waits already."""
        self._unused[id(y)] = (y, source)
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
            if (entry := self._unused.get(id(z))) is None or not takes(entry[1].linear.has_graph):
                return None
            del self._unused[id(z)]
            link = entry[1]
            if not call.in_place:
                self._consumed.append(link.tensor)
                if link.linear.has_graph:
                    self._bypassed.append(link.tensor)
                waits = link.linear.small and not self._recorder.stops
                if waits and link.linear.has_graph == grad_enabled():
                    return self._chain(z, link.linear, call)
            self.record()
            also = self._names_of(z)
            if link.linear.has_graph:
                x, weight, bias, kernels, name = self._operands(link)
                y = self._recorder.linear_act_with_graph(
                    x, kernels, [(weight, bias, name, call, also)]
                )
            else:
                y = self._recorder.linear_act(self._operands(link), call, also)
            if call.in_place:
                z.settle(y)
            return y

    def _chain(self, z: DeferredTensor, linear: LinearCall, call: Call) -> DeferredTensor:
        """Defer the activation of a linear layer too."""
        if not self._chain_links:
            self.record()
        pair = Link(linear, call)
        pair.also = tuple(self._names_of(z))
        self._chain_links.append(pair)
        return pair.stand_in(self)

    # ---- what is known of it ----

    def take(self, z: Tensor) -> Source | None:
        """What made a result that waits with its values; it does not wait any longer."""
        entry = self._unused.pop(id(z), None)
        return None if entry is None else entry[1]

    def awaits(self, t: Tensor, name: str | None = None) -> bool:
        """Whether t will be measured when it is used; it then is the named module's output too."""
        with self.lock:
            if isinstance(t, DeferredTensor) and t.is_in_chain():
                if name is not None:
                    t.link.also += (name,)
            elif id(t) in self._unused:
                if name is not None:
                    self._also.setdefault(id(t), []).append(name)
            else:
                return False
            return True

    def unit_dim(self, t: Tensor) -> int:
        """Which dimension of t counts the units: as in the last layer of as many dimensions."""
        return self._unit_dims.get(t.dim(), -1)

    def named(self, z: Tensor, y: Tensor) -> None:
        """The modules whose output z is too have the layer that y is the output of."""
        for name in self._names_of(z):
            self._recorder.also(name, y)

    def _names_of(self, z: Tensor) -> Sequence[str]:
        """The modules whose output z is too, which its layer takes over."""
        return self._also.pop(id(z), ()) if self._also else ()

    # ---- running and recording ----

    def record(self) -> None:
        """Run and measure, in order, all that waits but linear layers whose activation may follow.

        Results with values and deferred layers never wait at the same time.
        """
        with self.lock:
            if self._chain_links:
                self.run()
                return
            if not self._unused:
                return
            unused = self._unused.values()
            plain = [(z, made_by) for z, made_by in unused if type(z) is not DeferredTensor]
            if plain:
                run_undisturbed(self._record_plain, plain)

    def _record_plain(self, unused: Sequence[tuple[Tensor, Source]]) -> None:
        for z, source in unused:
            del self._unused[id(z)]
            self._recorder.output(source, z)
            self.named(z, z)

    def run(self) -> None:
        """Run the linear layers whose activations have been asked for."""
        if self._chain_links:
            with self.lock:
                run_undisturbed(self._run_chains)

    def settle(self) -> None:
        """Compute and record whatever waits: what follows may write to memory."""
        with self.lock:
            self._recorder.writes += 1
            if not (self._unused or self._chain_links or self._consumed):
                return
            self.record()
            for waiting, _ in list(self._unused.values()):
                waiting.resolve()  # type: ignore[attr-defined]
            consumed, self._consumed = self._consumed, []
            for ref in consumed:
                if (z := ref()) is not None:
                    z.resolve()

    def finish(self) -> None:
        """The forward has returned: settle everything.

        Raises:
            Unseen: somebody holds a pre-activation whose activation leads past it in the graph.
        """
        self.settle()
        if any(ref() is not None for ref in self._bypassed):
            raise Unseen

    def is_bypassed(self, t: Tensor) -> bool:
        """Whether t is a pre-activation whose activation leads past it in the graph."""
        return any(ref() is t for ref in self._bypassed)

    def release(self) -> None:
        """Turn every DeferredTensor that user code still holds into an ordinary tensor."""
        refs, held = [*self._consumed, *self.settled], self._held  # with what an interrupt left
        held += [z for z, _ in self._unused.values() if type(z) is DeferredTensor]
        held += [z for ref in refs if (z := ref()) is not None]
        held += [z for link in self._chain_links if (z := link.tensor()) is not None]
        refs.clear()
        self._unused, self._consumed, self.settled, self._also = {}, [], [], {}
        self._bypassed = []
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
        link, waits = z.link, self._unused.pop(id(z), None) is not None
        if waits or self._chain_links:
            self.record()
        if not waits:
            return self._value(link)
        if link.linear.has_graph:
            x, _, _, _, name = self._operands(link)
            y = self._value(link)
            row = self._recorder.weight(link.linear.weight)
            self._recorder.output(Source("linear", name, x.shape, (self._recorder.row(x),), row), y)
        else:
            y = self._recorder.linear_act(self._operands(link), NO_ACTIVATION)
        self.named(z, y)
        return y

    def _operands(self, link: Link) -> Linear:
        own = link.linear
        x = self._value(own.x) if isinstance(own.x, Link) else own.x
        return x, own.weight, own.bias, own.kind.kernels, own.name

    def _value(self, link: Link) -> Tensor:
        """The result of a link, computed without a record where it is not known."""
        if link.value is None:
            x, weight, bias, kernels, _ = self._operands(link)
            if link.linear.has_graph:
                assert link.call is None  # a pair with a graph has run, or nobody can ask for it
                return run_with_graph(torchs_linear, x, weight, bias)
            act, alpha, beta, _ = link.call or NO_ACTIVATION
            link.value = LINEAR_ACT(kernels, x, weight, bias, act, alpha, beta, False)[0]
        return link.value

    def _run_chains(self) -> None:
        """Each stretch of what is deferred that feeds but itself runs as one operator."""
        links, self._chain_links = self._chain_links, []
        start = 0
        for end, link in enumerate(links, start=1):
            if end < len(links) and link.feeds_only(links[end]):
                continue
            chain = links[start:end]
            x, *_, kernels, _ = self._operands(chain[0])
            layers = [pair.layer() for pair in chain]
            if chain[0].linear.has_graph:
                recorder = self._recorder
                link.value = run_with_graph(recorder.linear_act_with_graph, x, kernels, layers)
            else:
                link.value = self._recorder.linear_act_chain(x, kernels, layers)
            if (z := link.tensor()) is not None:
                z.settle(link.value)
            start = end
