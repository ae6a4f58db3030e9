"""The probe: a gain is taken where it is clear, and looking for it costs few steps."""

import pytest

from etastar.sweep.executors import gain
from etastar.sweep.executors.gain import NoGainError, require_gain


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
    """A vectorised run of four lanes whose steps take as long as a test says."""

    def __init__(self, clock, together, alone, num_steps=100):
        self.active = [None] * 4
        self.done, self._num_steps = 0, num_steps
        self._together, self._alone = clock.takes(*together), clock.takes(*alone)

    @property
    def is_done(self):
        return self.done == self._num_steps

    def step(self):
        self.done += 1
        self._together()

    def copy_of_one(self):
        return self._alone


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(gain, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("together", "alone", "num_steps"),
    [
        pytest.param([2], [1], 1, id="clear at once"),
        pytest.param([40, 2], [1], 2, id="the first step is slow"),
        pytest.param([3.3], [1], 4, id="a gain that is not clear is timed to the end"),
        pytest.param([3.3], [9, 2, 1], 4, id="so is one that other work feigns"),
        pytest.param([40, 3.3], [1], 4, id="and one that it hides at first"),
    ],
)
def test_a_gain_is_taken(clock, together, alone, num_steps):
    run, counts = Run(clock, together, alone), []
    require_gain(run, 4, counts.append)
    assert (run.done, counts) == (num_steps, [4] * num_steps)


@pytest.mark.parametrize(
    ("together", "alone", "most_steps", "num_steps"),
    [
        pytest.param([4.4], [1], 4, 2, id="a clear loss is seen twice"),
        pytest.param([3.6], [1], 4, 4, id="less than the least gain is none"),
        pytest.param([40, 2], [1], 1, 1, id="one step is all that was granted"),
    ],
)
def test_no_gain_is_refused(clock, together, alone, most_steps, num_steps):
    run = Run(clock, together, alone)
    with pytest.raises(NoGainError, match="times the speed of a loop"):
        require_gain(run, most_steps, lambda _: None)
    assert run.done == num_steps


def test_the_first_step_alone_is_not_timed(clock):
    with pytest.raises(NoGainError, match=r"0\.91 times"):
        require_gain(Run(clock, [4.4], [0.1, 1]), 4, lambda _: None)


def test_a_run_that_ends_in_its_probe_is_not_refused(clock):
    run = Run(clock, [40], [1], num_steps=1)
    require_gain(run, 4, lambda _: None)
    assert run.is_done
