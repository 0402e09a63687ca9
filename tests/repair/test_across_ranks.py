"""audit(net, group=): replicas that differ and shards that are equal, in real processes."""

from ranks import audits, launch


def test_ranks_are_compared(tmp_path):
    launch.run(audits.CHECKS, 4, tmp_path)
