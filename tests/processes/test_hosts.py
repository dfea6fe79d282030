"""A run of one process; runs of several are in training/test_distributed.py."""

from deepfidelity_jax.processes import hosts


def test_one_process_is_the_first_and_waits_for_none():
    assert (hosts.index(), hosts.count(), hosts.is_first()) == (0, 1, True)
    hosts.wait()
    assert hosts.broadcast(7) == 7
    assert [hosts.Vote()(yes) for yes in (False, True)] == [False, True]
    assert hosts.compiled_by_all(sorted, reverse=True)([1, 2]) == [2, 1]
    assert hosts.leave(3) == 3
    assert not hosts.is_loss(RuntimeError("Gloo connection closed by peer"))
