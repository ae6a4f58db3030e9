"""The probe: the fastest way is taken where it is clear, and looking for it costs few steps."""

import pytest

from etastar.sweep.executors import gain
from etastar.sweep.executors.gain import reason_for_turns
from etastar.sweep.executors.refusals import NoGainError


class Clock:
    """Time that only steps take."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def takes(self, *seconds):
        """A step that takes so long at each call, the last of them ever after."""
        left = list(seconds)

        def step():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return step


class Run:
    """A run of four lanes whose steps take as long as a test says."""

    def __init__(self, clock, at_once, in_turn, alone, num_steps=100):
        self.active = [None] * 4
        self.ways, self._num_steps = "", num_steps
        self._at_once, self._in_turn = clock.takes(*at_once), clock.takes(*in_turn)
        self._alone = clock.takes(*alone)

    @property
    def steps_left(self):
        return self._num_steps - len(self.ways)

    @property
    def is_done(self):
        return self.steps_left == 0

    def step(self, *, vectorised):
        self.ways += "v" if vectorised else "t"
        (self._at_once if vectorised else self._in_turn)()

    def copy_of_one(self):
        return self._alone


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(gain, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("at_once", "in_turn", "alone", "ways"),
    [
        pytest.param([2], [4], [1], "vt", id="clear at once"),
        pytest.param([40, 2], [4], [1], "vtvt", id="the first step is slow"),
        pytest.param([3.3], [4], [1], "vtvtvtvt", id="what is not clear is timed to the end"),
        pytest.param([3.3], [4], [9, 2, 1], "vtvtvtvt", id="so is one that other work feigns"),
        pytest.param([40, 3.3], [4], [1], "vtvtvtvt", id="and one that it hides at first"),
    ],
)
def test_a_gain_is_taken(clock, at_once, in_turn, alone, ways):
    run, counts = Run(clock, at_once, in_turn, alone), []
    assert reason_for_turns(run, 4, counts.append) == ""
    assert (run.ways, counts) == (ways, [4] * len(ways))


@pytest.mark.parametrize(
    ("at_once", "in_turn", "alone", "most_steps", "ways"),
    [
        pytest.param([4.4], [4], [1], 4, "vtvt", id="a clear loss is seen twice"),
        pytest.param([3.6], [3.3], [1], 4, "vtvt", id="so is a gain that is less than in turn"),
        pytest.param([40, 2], [4], [1], 1, "vt", id="one step is all that was granted"),
        pytest.param([5], [4.2], [1], 4, "vtvt", id="a loop is no faster than the timing is off"),
    ],
)
def test_gradients_are_taken_in_turn_where_that_is_faster(
    clock, at_once, in_turn, alone, most_steps, ways
):
    run = Run(clock, at_once, in_turn, alone)
    reason = reason_for_turns(run, most_steps, lambda _: None)
    expected = min(in_turn) / (at_once[0] if most_steps == 1 else min(at_once))
    assert f"{expected:.2f} times the speed" in reason
    assert run.ways == ways


def test_runs_begin_again_only_where_a_loop_makes_up_for_the_steps_that_are_lost(clock):
    # 6 in 7 of the speed of a loop, or 0.94 with what timing may be off: 4 steps of 100 are less
    with pytest.raises(NoGainError, match=r"0\.86 times the speed of a loop"):
        reason_for_turns(Run(clock, [6], [4 * 7 / 6], [1]), 4, lambda _: None)
    assert reason_for_turns(Run(clock, [6], [4 * 7 / 6], [1], 60), 4, lambda _: None)


def test_the_first_step_alone_is_not_timed(clock):
    with pytest.raises(NoGainError, match=r"0\.80 times"):
        reason_for_turns(Run(clock, [5], [5], [0.1, 1]), 4, lambda _: None)


@pytest.mark.parametrize(("num_steps", "ways"), [(1, "v"), (2, "vt"), (3, "vtv")])
def test_a_run_that_ends_in_its_probe_is_not_refused(clock, num_steps, ways):
    run = Run(clock, [40], [40], [1], num_steps)
    assert reason_for_turns(run, 4, lambda _: None) == ""
    assert (run.is_done, run.ways) == (True, ways)
