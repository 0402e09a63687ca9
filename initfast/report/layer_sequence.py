"""The layers of a report, by their places and by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import index
from typing import Any, SupportsIndex, TypeAlias, overload

from initfast.errors import kind_of
from initfast.report.select import named
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments

Name: TypeAlias = "str | tuple[str, int] | tuple[str, int, int]"


class LayerSequence:
    """Layers in execution order.

    Args:
        source: makes the layers, and the moments of the net's inputs, when somebody first asks.
    """

    def __init__(self, source: Callable[[], tuple[Sequence[Layer], Sequence[Moments]]]) -> None:
        self._source = source

    @cached_property
    def _contents(self) -> tuple[list[Layer], tuple[Moments, ...]]:
        layers, inputs = self._source()
        del self._source
        return list(layers), tuple(inputs)

    def __getstate__(self) -> dict[str, Any]:
        self._contents  # noqa: B018  (what makes it need not pickle)
        return self.__dict__

    @property
    def layers(self) -> list[Layer]:
        """One :class:`Layer` for each operator, in execution order."""
        return self._contents[0]

    @property
    def inputs(self) -> tuple[Moments, ...]:
        """The moments of the net's own inputs."""
        return self._contents[1]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: Name | SupportsIndex) -> Layer: ...

    @overload
    def __getitem__(self, key: slice) -> list[Layer]: ...

    def __getitem__(self, key: Name | SupportsIndex | slice) -> Layer | list[Layer]:
        """A layer by its name, or by its place in the order; a range of places finds a list.

        `report[name]` is the module's first call, `report[name, call]` another (0 is the first),
        and `report[name, call, i]`, where a call returns several tensors, the i-th of them that
        was measured: of an LSTM's output, h and c, `report["lstm", 0, 1]` is h.

        The name of a module finds its output, whichever layer made it; what functions within the
        module have made on the way is found where its output was not measured.

        Raises:
            KeyError: no layer has that name, the name has fewer calls, or the call fewer tensors.
            IndexError: there are fewer layers.
            TypeError: the key is none of these.
        """
        if isinstance(key, str):
            return named(self.layers, key)
        if isinstance(key, tuple) and 1 <= len(key) <= 3 and isinstance(key[0], str):
            return named(self.layers, *key)
        if isinstance(key, slice):
            return self.layers[key]
        return self.layers[self._place(key)]

    def _place(self, key: Any) -> int:
        """A layer's place in the order.

        Raises:
            IndexError, TypeError: as above.
        """
        if isinstance(key, type) or not hasattr(key, "__index__"):
            raise TypeError(
                f"report[...] is given {kind_of(key)}; expected a layer's name, a tuple of a name "
                "and its call, a place in the order or a range of places"
            )
        count, place = len(self.layers), index(key)
        if not -count <= place < count:
            there = f"{count} layers, 0 to {count - 1}" if count else "no layers"
            raise IndexError(f"report[{place}]: the report has {there}")
        return place

    @property
    def first_nonfinite(self) -> Layer | None:
        """The first layer with a NaN or an infinity, in its output or pre-activation.

        It made it, unless :attr:`Report.origin` says that its input or parameters had it already.
        """
        return next((layer for layer in self.layers if layer.has_nonfinite), None)
