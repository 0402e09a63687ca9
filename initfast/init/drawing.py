"""Drawing: a law makes a target's values of a key.

Where nothing but the kernels looks, the law writes to the tensor's memory at once. What looks at
operators (a compiler, a transform such as vmap or jvp, a trace, a dispatch mode) could not see it.
It sees ``initfast::draw_key`` and ``initfast::draw``, which write to nothing, and torch's copy_,
which it knows. Both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._C._dynamo import eval_frame
from torch.nn.parameter import Parameter

from initfast.init.axes import axes_of
from initfast.init.keys import derive_key, draw_key, next_key
from initfast.init.placement import Place, Shard, checked_place, is_distributed, shard_of
from initfast.ops.functions import count_write
from initfast.ops.schemas import definitions
from initfast.torch_state import operators_are_seen

P = ParamSpec("P")
LAWS: dict[str, Callable[..., None]] = {}
OF_MATRICES: set[str] = set()
"""Laws that an element's index does not suffice for: they ask for a weight, [out, in, ...]."""


def law(
    function: Callable[Concatenate[Shard, int, P], None],
) -> Callable[Concatenate[Shard, int, P], None]:
    """Make a function of a shard, a key and numbers a law, known by its name.

    It writes to the shard's local memory. No compiler looks into it, though one runs: Dynamo would
    translate the numpy of the quantile tables to torch, which takes minutes and gives other bits.
    """

    def unseen(shard: Shard, key: int, *args: P.args, **kwargs: P.kwargs) -> None:
        compiler = eval_frame.set_eval_frame(None)
        try:
            function(shard, key, *args, **kwargs)
        finally:
            eval_frame.set_eval_frame(compiler)

    LAWS[function.__name__] = unseen
    return function


def law_of_matrices(
    function: Callable[Concatenate[Shard, int, P], None],
) -> Callable[Concatenate[Shard, int, P], None]:
    """Make a function a law whose shards are rectangles of one weight, laid out [out, in, ...]."""
    OF_MATRICES.add(function.__name__)
    return law(function)


class Target(NamedTuple):
    """What an initialiser fills, where its key comes from, and how it lies.

    tensor: the destination, of any layout.
    generator: where the key comes from, or None.
    key: in its place, or None.
    place: where the tensor lies in its global tensor; None: it is the whole, or a DTensor.
    axes: what its dimensions are, as :func:`initfast.init.axes.axes_of` reads it; None: [out, in,
        ...].
    """

    tensor: Tensor
    generator: torch.Generator | None = None
    key: int | None = None
    place: Place | None = None
    axes: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the global tensor."""
        if self.place is None:
            return tuple(self.tensor.shape)
        return tuple(checked_place(self.place).global_shape)

    @property
    def matrix_shape(self) -> tuple[int, ...]:
        """``[out, in, ...]`` of one weight in it."""
        return self.shape if self.axes is None else axes_of(self.axes).matrix_shape(self.shape)

    @property
    def shard(self) -> Shard:
        """The slice of the global tensor that this process holds."""
        return shard_of(self.tensor, self.place)


def draw(target: Target, name: str, *numbers: float) -> Tensor:
    """Fill a target by a law; its arguments are right.

    Args:
        target: what is filled.
        name: of the law.
        numbers: the law's.

    Returns:
        The target's tensor.

    Raises:
        ArgumentError: generator, key or place do not fit.
    """
    tensor = target.tensor
    if operators_are_seen():
        return _draw_in_sight(target, name, numbers)
    if has_no_data(tensor):
        return tensor
    stream = next_key(tensor, target.generator, target.key)
    shard = target.shard
    if shard.local.numel() > 0:
        _obey(name, shard._replace(local=shard.local.data), stream, target.axes, numbers)
    count_write(tensor)
    if shard.local is not tensor:
        count_write(shard.local)
    return tensor


def _obey(name: str, shard: Shard, key: int, axes: str | None, numbers: Sequence[float]) -> None:
    """Write what a law makes of a shard that has elements."""
    if name in OF_MATRICES:
        each_matrix(shard, axes, key, lambda part, own: LAWS[name](part, own, *numbers))
    else:
        LAWS[name](shard, key, *numbers)


def each_matrix(
    shard: Shard, axes: str | None, key: int, fill: Callable[[Shard, int], None]
) -> None:
    """Fill each of the weights in a tensor, laid out ``[out, in, ...]``.

    Args:
        shard: of the tensor; where it is no rectangle, the whole is made and cut.
        axes: what its dimensions are, or None.
        key: of the one weight; each of several has a key of its own, derived from it.
        fill: writes a shard of a weight.
    """
    if shard.steps is not None:
        whole = torch.empty(shard.shape, dtype=shard.local.dtype, device=shard.local.device)
        each_matrix(shard_of(whole), axes, key, fill)
        shard.local.copy_(shard.cut(whole))
    elif axes is None:
        fill(shard, key)
    else:
        for number, part in axes_of(axes).matrices(shard):
            fill(part, derive_key(key, f"matrix {number}") if number else key)


def has_no_data(tensor: Tensor) -> bool:
    """Whether a tensor has a shape only: on the meta device, or fake."""
    if type(tensor) in (Tensor, Parameter):
        return tensor.is_meta
    from torch._subclasses.fake_tensor import FakeTensor

    return tensor.is_meta or isinstance(tensor, FakeTensor)


def _draw_in_sight(target: Target, name: str, numbers: Sequence[float]) -> Tensor:
    tensor, generator, key, place, axes = target
    whole = not is_distributed(tensor)
    shard = Shard(tensor, (), ()) if whole and place is None else target.shard
    local = shard.local
    like = torch.empty((), dtype=local.dtype, device=local.device).expand(local.shape)
    if whole and key is None and generator is not None and torch.compiler.is_compiling():
        _keep_generator(generator)
        stream = torch.ops.initfast.draw_key_by_id(like, id(generator))
    elif whole and key is None:
        stream = torch.ops.initfast.draw_key(like, generator)
    else:
        stream = torch.tensor(next_key(tensor, generator, key), dtype=torch.int64, device="cpu")
    at = list(shard.start), list(shard.shape), shard.steps, axes
    local.copy_(torch.ops.initfast.draw(stream, like, name, [float(n) for n in numbers], *at))
    return tensor


# ---- the operators ----

for _schema in (
    "draw_key(Tensor like, Generator? generator)",
    "draw_key_by_id(Tensor like, int id)",
):
    definitions.define(
        f"{_schema} -> Tensor",
        tags=(torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded),
    )
definitions.define(
    "draw(Tensor key, Tensor like, str law, float[] numbers, int[] start, int[] whole, "
    "int[]? steps=None, str? axes=None) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)


def _draw_key(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """The generator's next key for a tensor like this, as a tensor on the CPU."""
    return torch.tensor(draw_key(generator, like.device), dtype=torch.int64, device="cpu")


_generators: WeakValueDictionary[int, torch.Generator] = WeakValueDictionary()


def _keep_generator(generator: torch.Generator) -> None:
    """Let a compiled graph, which cannot hold a generator, find it by its id.

    Dynamo calls this while it compiles, and compiles anew for a generator of another id.
    """
    _generators[id(generator)] = generator


_keep_generator._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _draw_key_under_vmap(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """A key for each sample or one for all, as vmap's randomness says, or its error.

    randint draws from [0, 2^64 - 1) - 2^63, a key is the generator's word: the sign bit differs.
    """
    return torch.randint(-(2**63), 2**63 - 1, (), generator=generator, device="cpu") ^ -(2**63)


def _of_kept_generator(function: Callable[..., Tensor]) -> Callable[[Tensor, int], Tensor]:
    return lambda like, number: function(like, _generators[number])


def _draw(
    key: Tensor,
    like: Tensor,
    name: str,
    numbers: Sequence[float],
    start: Sequence[int],
    whole: Sequence[int],
    steps: Sequence[int] | None = None,
    axes: str | None = None,
) -> Tensor:
    """A contiguous tensor of like's shape, dtype and device: a slice from `start` of the whole."""
    out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    shape = tuple(whole) or tuple(like.shape)
    if out.numel() > 0:
        at = tuple(start) or (0,) * len(shape)
        shard = Shard(out, at, shape, None if steps is None else tuple(steps))
        _obey(name, shard, int(key.item()), axes, numbers)
    return out


def _draw_under_vmap(
    info: Any, in_dims: Sequence[Any], key: Tensor, like: Tensor, *rest: Any
) -> tuple[Tensor, int | None]:
    at_key, at_like = in_dims[:2]
    if at_like is not None:
        like = like.movedim(at_like, 0)[0]
    if at_key is None:
        return torch.ops.initfast.draw(key, like, *rest), None
    keys = key.unbind(at_key)
    return torch.stack([torch.ops.initfast.draw(k, like, *rest) for k in keys]), 0


for _function, _where in (
    (_draw_key, "CompositeExplicitAutograd"),
    (_draw_key_under_vmap, "FuncTorchVmapMode"),
):
    definitions.impl("draw_key", _function, _where)
    definitions.impl("draw_key_by_id", _of_kept_generator(_function), _where)
definitions.impl("draw", _draw, "CompositeExplicitAutograd")
torch.library.register_vmap("initfast::draw", _draw_under_vmap, lib=definitions)


@torch.library.register_fake("initfast::draw_key", lib=definitions)
@torch.library.register_fake("initfast::draw_key_by_id", lib=definitions)
def _(like: Tensor, generator: Any) -> Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


@torch.library.register_fake("initfast::draw", lib=definitions)
def _(key: Tensor, like: Tensor, *_: Any) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)
