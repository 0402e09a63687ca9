"""Nets that several processes run together: each measures the part that it holds."""

import gc
import weakref

import torch
from ranks import launch, sharded_nets
from torch.distributed.pipelining import schedules

from initfast.nets import shards


def test_each_rank_measures_its_part(tmp_path):
    checks = (
        sharded_nets.tensor_parallel,
        sharded_nets.distributed_tensors,
        sharded_nets.partial_sums,
        sharded_nets.pipeline,
    )
    launch.run(checks, 2, tmp_path)


def test_the_look_for_a_schedule_keeps_no_callers_tensors():
    class Schedule(schedules._PipelineSchedule):
        scale_grads, _n_microbatches, step, _step_microbatches = True, 4, None, None
        __init__ = object.__init__

    def call():
        activation = torch.ones(3)
        return weakref.ref(activation), shards._averaged_micro_batches()

    # As the frames of a schedule: only those of its own file are looked into.
    run = compile("def step(self): return call()", schedules.__file__, "exec")
    scope = {"call": call}
    exec(run, scope)
    gc.disable()
    try:
        for found, expected in ((call(), 1), (scope["step"](Schedule()), 4)):
            assert found[0]() is None and found[1] == expected
    finally:
        gc.enable()
