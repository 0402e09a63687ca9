"""Why a function of these numbers is NaN or infinite: the reach of each, in numbers.

Only what the operands prove is said: at an element whose result is not finite the operands are read
and the mathematics follows. Where a function is not known, or its operands do not prove the cause
(as of a sum whose terms alone could not overflow), nothing is said.
"""

from __future__ import annotations

from torch import Tensor

from initfast.diagnosis.elementwise_reasons import ELEMENTWISE
from initfast.diagnosis.function_calls import FunctionCall, Reason
from initfast.diagnosis.sum_reasons import SUMS


def reason(call: FunctionCall) -> Reason:
    """Why the result of a call is not finite.

    Args:
        call: one whose inputs have no NaN.

    Returns:
        In numbers; empty where they do not tell.
    """
    explain = _REASONS.get(call.name)
    if explain is None or any(isinstance(t, Tensor) and t.is_complex() for t in call.args):
        return Reason()
    return explain(call)


_REASONS = ELEMENTWISE | SUMS
