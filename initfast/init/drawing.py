"""Drawing: a law makes a tensor's values of a key.

Where nothing but the kernels looks, the law writes to the tensor's memory at once. What looks at
operators (a compiler, a transform such as vmap or jvp, a trace, a dispatch mode) could not see it.
It sees ``initfast::draw_key`` and ``initfast::draw``, which write to nothing, and torch's copy_,
which it knows. Both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch._C._dynamo import eval_frame
from torch.nn.parameter import Parameter

from initfast.init.keys import draw_key, next_key
from initfast.init.placement import Shard, is_distributed, shard_of
from initfast.ops.functions import count_write
from initfast.ops.schemas import definitions
from initfast.torch_state import operators_are_seen

P = ParamSpec("P")
LAWS: dict[str, Callable[..., None]] = {}


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


def draw(
    tensor: Tensor,
    name: str,
    generator: torch.Generator | None,
    key: int | None,
    *numbers: float,
) -> Tensor:
    """Fill a tensor by a law; its arguments are right.

    Args:
        tensor: the destination, of any layout.
        name: of the law.
        generator: where the key comes from, or None.
        key: in its place, or None.
        numbers: the law's.

    Raises:
        ArgumentError: generator or key do not fit.
    """
    if operators_are_seen():
        return _draw_in_sight(tensor, name, generator, key, numbers)
    if has_no_data(tensor):
        return tensor
    stream = next_key(tensor, generator, key)
    shard = shard_of(tensor)
    if shard.local.numel() > 0:
        LAWS[name](shard._replace(local=shard.local.data), stream, *numbers)
    count_write(tensor)
    if shard.local is not tensor:
        count_write(shard.local)
    return tensor


def has_no_data(tensor: Tensor) -> bool:
    """Whether a tensor has a shape only: on the meta device, or fake."""
    if type(tensor) in (Tensor, Parameter):
        return tensor.is_meta
    from torch._subclasses.fake_tensor import FakeTensor

    return tensor.is_meta or isinstance(tensor, FakeTensor)


def _draw_in_sight(
    tensor: Tensor,
    name: str,
    generator: torch.Generator | None,
    key: int | None,
    numbers: Sequence[float],
) -> Tensor:
    whole = not is_distributed(tensor)
    shard = Shard(tensor, (), ()) if whole else shard_of(tensor)
    local = shard.local
    like = torch.empty((), dtype=local.dtype, device=local.device).expand(local.shape)
    if whole and key is None and generator is not None and torch.compiler.is_compiling():
        _keep_generator(generator)
        stream = torch.ops.initfast.draw_key_by_id(like, id(generator))
    elif whole and key is None:
        stream = torch.ops.initfast.draw_key(like, generator)
    else:
        stream = torch.tensor(next_key(tensor, generator, key), dtype=torch.int64, device="cpu")
    place = list(shard.start), list(shard.shape)
    local.copy_(torch.ops.initfast.draw(stream, like, name, [float(n) for n in numbers], *place))
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
    "draw(Tensor key, Tensor like, str law, float[] numbers, int[] start, int[] whole) -> Tensor",
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
) -> Tensor:
    """A contiguous tensor of like's shape, dtype and device: a slice from `start` of the whole."""
    out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    shape = tuple(whole) or tuple(like.shape)
    if out.numel() > 0:
        shard = Shard(out, tuple(start) or (0,) * len(shape), shape)
        LAWS[name](shard, int(key.item()), *numbers)
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
