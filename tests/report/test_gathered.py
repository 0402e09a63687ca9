"""report.gathered: the whole net's report from those of the processes that run it."""

import pytest
from cases.switches import times
from ranks import gathered, gathered_wraps, launch


def test_two_ranks(tmp_path):
    launch.run([*gathered.CHECKS, *gathered_wraps.OF_TWO], 2, tmp_path)


def test_four_ranks(tmp_path):
    launch.run([gathered.data_and_tensor_parallel, *gathered_wraps.OF_FOUR], 4, tmp_path)


@pytest.mark.skipif(times(1) == 1, reason="takes as long: INITFAST_LONG_FUZZ=1 runs it")
def test_eight_ranks(tmp_path):
    launch.run([gathered.data_and_tensor_parallel], 8, tmp_path)


@pytest.mark.skipif(times(1) == 1, reason="waits for a time-out: INITFAST_LONG_FUZZ=1 runs it")
def test_a_rank_that_does_not_come(tmp_path):
    launch.run([gathered.a_rank_that_does_not_come], 2, tmp_path)


@pytest.mark.skipif(times(1) == 1, reason="takes a minute: INITFAST_LONG_FUZZ=1 runs it")
def test_language_models(tmp_path):
    pytest.importorskip("transformers")
    from ranks import language_models

    (tmp_path / "four").mkdir()
    launch.run(language_models.OF_TWO, 2, tmp_path)
    launch.run(language_models.OF_FOUR, 4, tmp_path / "four")
