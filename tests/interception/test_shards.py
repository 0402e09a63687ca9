"""Nets that several processes run together: each measures the part that it holds."""

from ranks import launch, sharded_nets


def test_each_rank_measures_its_part(tmp_path):
    checks = (
        sharded_nets.tensor_parallel,
        sharded_nets.distributed_tensors,
        sharded_nets.partial_sums,
        sharded_nets.pipeline,
    )
    launch.run(checks, 2, tmp_path)
