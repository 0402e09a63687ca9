"""initialize_(): for every parameter of a net the initialiser that its place asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from initfast.errors import ArgumentError, kind_of
from initfast.init.filling import DTYPES
from initfast.init.keys import draw_key
from initfast.repair.filling import fill, materialise
from initfast.repair.following import Following, by_module_order, by_running, with_following
from initfast.repair.initialized import Change, Initialized, Left
from initfast.repair.rules import Rules, Use
from initfast.repair.schemes import SCHEMES, DoesNotFit, Scheme
from initfast.repair.schemes.law import Law
from initfast.repair.slots import Slot, slots
from initfast.undo_log import UndoLog, with_undo_log

How: TypeAlias = "Law | Callable[[Tensor], Any]"


def initialize_(
    net: nn.Module,
    x: Any = None,
    *,
    scheme: str | None = "auto",
    seed: int | None = None,
    rules: Mapping[Any, Use] | None = None,
    device: torch.device | str | None = None,
) -> Initialized:
    """Initialise every parameter of a net, by rules, and what they do not name by a scheme.

    By name and by type, as one writes it with ``named_parameters()`` and ``isinstance``:

        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10))
        >>> rules = {"*.bias": nn.init.zeros_, nn.Conv2d: nn.init.kaiming_normal_}
        >>> done = initfast.initialize_(net, rules=rules, seed=0)
        >>> [change.how for change in done.changes][:2]
        ['rule Conv2d', "rule '*.bias'"]

    "auto" draws, with n for the fan-in (of the part, where a weight is packed, and of the group;
    over the stride's product, where a convolution is transposed, as each output sums so many):

    ======================================================  =======================================
    parameter                                               drawn
    ======================================================  =======================================
    linear, convolution before ReLU                         N(0, 2 / n) (He et al. 2015)
    before tanh, SELU; before another activation f          N(0, 1 / n); N(0, 1 / (n E f²))
    before a sine sin(ω z), and after the last; the first   U(±√(6 / n) / ω); U(±1 / n); biases
    .                                                       U(±1 / √n) (Sitzmann et al. 2020)
    before GELU, SiLU, Mish, with a bias, outside blocks    half-stable: N(0, C_W / n); the bias
    .                                                       N(0, C_b) (Roberts et al. 2022, ch. 5)
    before a norm, another layer, the end                   N(0, 1 / n)
    attention's queries, keys and values                    N(0, 1 / n)
    what ends one of L residual branches                    N(0, 1 / (n L)), GPT-2's 1 / √(2 N)
    a head, outside blocks and called so                    N(0, 1 / n²) (Yang et al. 2022)
    an embedding; one tied to the head; padding rows        N(0, 1); N(0, 1 / width); 0
    positions, tokens                                       N(0, 0.02²)
    recurrent: of the input; of the state                   N(0, 1 / n); orthogonal, gate by gate
    the forget gate's bias                                  1 (Jozefowicz et al. 2015)
    norms; other biases                                     1 and 0; 0
    ======================================================  =======================================

    What follows a layer is seen as the net runs on x; without x it is told by the order in which
    modules are registered, and functions are not seen. What a parameter is for is told by its
    module's type and, in repeated blocks, by the names that transformers use. Each parameter's
    values follow from the seed and its first name (without ``_orig_mod.`` and ``module.``) alone:
    in any order, for any part of the net, and on any sharding the same. A function of the user's is
    called with the parameter, without gradients, and with torch's generators seeded likewise.

    Args:
        net: a module. Frozen and quantised parameters stay as they are, as does what no rule and no
            scheme says anything of; they are listed.
        x: what the net is run on, once, as :func:`initfast.profile` takes it; None: not at all.
        scheme: a name in ``initfast.repair.schemes.SCHEMES``, as "gpt2", "torchtitan", "resnet";
            None: the rules only.
        seed: any integer; None: drawn from torch's default CPU generator.
        rules: by a pattern for parameters' names (as in :mod:`fnmatch`) or by a module's type,
            which stands for its parameters but the biases: a function of the parameter, or None to
            leave it. The first that matches wins.
        device: where parameters that are on the meta device are made.

    Returns:
        :class:`Initialized`: what was done to each parameter and why, and what was left. Print it.

    Raises:
        ArgumentError: a ValueError. No parameters; no such scheme; one that does not fit the net,
            which says why; a rule that matches nothing; parameters on the meta device and no
            device, or nothing that says what they are to be; a net flattened by FSDP.
        Exception: what a rule, or the net on x, raises. Whatever it is, and whenever it is
            interrupted, every parameter is as it was.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
        >>> done = initfast.initialize_(net, torch.randn(8, 64), seed=0)
        >>> [round(change.std, 4) for change in done.changes if "weight" in change.name]
        [0.1768, 0.125]
    """
    chosen = _scheme(scheme)
    _check(net, device)
    given = Rules(rules or {})
    seed = draw_key(None, torch.device("cpu")) if seed is None else seed
    with torch.no_grad():
        return with_undo_log(partial(_initialize, net, x, chosen, seed, given, device))


@dataclass(frozen=True)
class Plan:
    """What is to be done to each parameter, and which stay."""

    fills: list[tuple[Slot, How, Change]]
    left: list[Left]


def _initialize(
    net: nn.Module,
    x: Any,
    scheme: Scheme | None,
    seed: int,
    rules: Rules,
    device: torch.device | str | None,
    log: UndoLog,
) -> Initialized:
    meta = {name for name, slot in slots(net).items() if slot.tensor.is_meta}
    following = by_module_order(net)
    if x is not None:
        scheme_before = None if scheme is None else SCHEMES["auto"]
        _make_and_fill(plan_of(net, following, scheme_before, rules, meta), net, seed, device, log)
        following |= by_running(net, x)
    plan = plan_of(net, following, scheme, rules, meta)
    notes = _make_and_fill(plan, net, seed, device, log)
    log.keep()
    name = "none" if scheme is None else scheme.name
    return Initialized(name, seed, [change for *_, change in plan.fills], plan.left, notes)


def plan_of(
    net: nn.Module,
    following: Mapping[str, Following],
    scheme: Scheme | None,
    rules: Rules,
    meta: set[str],
) -> Plan:
    """Decide on everything before anything is written."""
    plan = Plan([], [])
    found = with_following(slots(net), following)
    matched = rules.match(found.values())
    for name, slot in found.items():
        made = name in meta
        rule = matched.get(name)
        reason = None if made and rule is None else _stays(slot)
        if rule is not None and rule.use is None:
            reason = f"rule {rule}"
        law = None
        if reason is None and rule is None:
            law = None if scheme is None else scheme.law(slot.role)
            reason = None if law is not None else _nothing_says(slot, scheme)
        if reason is not None:
            if made:
                raise ArgumentError(
                    f"{name} is on the meta device, and {reason}; expected a rule for it, as "
                    f"rules={{{name!r}: torch.nn.init.zeros_}}"
                )
            plan.left.append(Left(name, reason))
            continue
        how: Any = rule.use if rule is not None else law
        plan.fills.append((slot, how, _change(slot, rule, law, scheme)))
    _check_weights(plan, found, scheme)
    return plan


def _check_weights(plan: Plan, found: Mapping[str, Slot], scheme: Scheme | None) -> None:
    """A scheme that says nothing of any weight is for other nets."""
    if scheme is None or any(_is_weight(slot) for slot, *_ in plan.fills):
        return
    said = {left.name for left in plan.left if left.reason.startswith("scheme ")}
    untold = [name for name, slot in found.items() if name in said and _is_weight(slot)]
    if untold:
        raise DoesNotFit(
            f"scheme {scheme.name!r} is for {scheme.nets}; it says nothing of any weight of this "
            f"net, as {untold[0]}"
        )


def _is_weight(slot: Slot) -> bool:
    return slot.role.part == "weight" and slot.role.kind not in ("norm", "other")


def _change(slot: Slot, rule: Any, law: Law | None, scheme: Scheme | None) -> Change:
    role = slot.role
    if rule is not None or law is None or scheme is None:
        return Change(role.name, role.shape, f"rule {rule}", None, "the first rule that matches")
    return Change(role.name, role.shape, str(law), scheme.std(role), law.why)


def _stays(slot: Slot) -> str | None:
    """Why a parameter is left alone, whatever scheme there is; None where it is not."""
    tensor = slot.tensor
    if tensor.dtype not in DTYPES:
        return f"it is {tensor.dtype}: quantised"
    if tensor.numel() == 0:
        return "it has no elements"
    is_own = slot.key in slot.owner._parameters
    return "it is frozen" if is_own and not tensor.requires_grad else None


def _nothing_says(slot: Slot, scheme: Scheme | None) -> str:
    if scheme is None:
        return "no rule matches it"
    what = type(slot.owner).__name__
    return f"scheme {scheme.name!r} says nothing of {slot.key!r} of a {what}"


def _make_and_fill(
    plan: Plan, net: nn.Module, seed: int, device: torch.device | str | None, log: UndoLog
) -> list[str]:
    notes = []
    if device is not None:
        stay = materialise(net, device, log)
        if stay:
            notes = [f"on the meta device stay the buffers {', '.join(stay)}"]
    carry_out(plan, seed, log)
    return notes


def carry_out(plan: Plan, seed: int, log: UndoLog) -> None:
    """Fill what is to be filled."""
    for slot, how, _ in plan.fills:
        tensor = slot.owner._parameters.get(slot.key)  # it may have been made since
        fill(slot._replace(tensor=slot.tensor if tensor is None else tensor), how, seed, log)


def _scheme(name: str | None) -> Scheme | None:
    if name is not None and not (isinstance(name, str) and name in SCHEMES):
        known = ", ".join(SCHEMES)
        raise ArgumentError(f"scheme is {name!r}; expected None or one of {known}")
    return None if name is None else SCHEMES[name]


def _check(net: nn.Module, device: torch.device | str | None) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is {kind_of(net)}; expected a torch.nn.Module")
    parameters = dict(net.named_parameters())
    if not parameters:
        raise ArgumentError(f"net, a {type(net).__name__}, has no parameters; expected some")
    for name, p in parameters.items():
        if type(p).__name__ == "FlatParameter":
            raise ArgumentError(
                f"{name} is a shard flattened by FullyShardedDataParallel; expected the net "
                "before it is wrapped, or fully_shard, which keeps parameters as they are"
            )
        if nn.parameter.is_lazy(p):
            raise ArgumentError(f"{name} has no shape yet; expected the net to have run once")
        if p.is_meta and device is None:
            raise ArgumentError(f"{name} is on the meta device; expected device=, to make it there")
