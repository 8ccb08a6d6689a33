import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.config import Schedule
from smidgen.training.schedule import rate


def rates(schedule: Schedule, peak: float, num_steps: int, steps_per_epoch: int) -> list[float]:
    return [rate(schedule, peak, step, num_steps, steps_per_epoch) for step in range(num_steps)]


runs = st.tuples(st.integers(1, 20), st.integers(1, 30))  # epochs, steps per epoch


@given(runs, st.floats(1e-6, 10), st.floats(0.01, 0.99))
def test_one_cycle_rises_to_its_peak_and_falls_to_zero(
    run: tuple[int, int], peak: float, warmup: float
) -> None:
    num_steps = run[0] * run[1]
    found = rates(Schedule(name="one-cycle", warmup=warmup), peak, num_steps, run[1])
    assert all(0 < value <= peak * (1 + 1e-9) for value in found)
    top = found.index(max(found))
    assert abs((top + 0.5) / num_steps - warmup) <= 1 / num_steps + 1e-9
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    middles = (np.arange(num_steps) + 0.5) / num_steps  # a step has the rate of its middle
    assert found == pytest.approx(np.interp(middles, [0, warmup, 1], [0, peak, 0]))


def test_the_mean_of_one_cycle_is_half_its_peak() -> None:
    found = rates(Schedule(name="one-cycle", warmup=0.2), 0.4, 1000, 100)
    assert math.fsum(found) / 1000 == pytest.approx(0.2, rel=1e-9)
    assert max(found) == pytest.approx(0.4, rel=0.005)
    assert found[0] == pytest.approx(0.4 * 0.5 / 200)
    assert found[-1] == pytest.approx(0.4 * 0.5 / 800)


@settings(deadline=None)  # the first step of an optimizer loads much of torch
@given(runs, st.floats(0.01, 1), st.integers(1, 7), st.floats(0.1, 1))
def test_steps_drop_as_those_of_torch(
    run: tuple[int, int], peak: float, every: int, gamma: float
) -> None:
    epochs, per_epoch = run
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    oracle = torch.optim.lr_scheduler.StepLR(optimizer, every, gamma)
    found = rates(
        Schedule(name="step", step_size=every, gamma=gamma), peak, epochs * per_epoch, run[1]
    )
    for epoch in range(epochs):
        within = found[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert within == pytest.approx(oracle.get_last_lr() * per_epoch)
        optimizer.step()
        oracle.step()


@given(runs, st.floats(0.01, 1))
def test_constant_is_constant(run: tuple[int, int], peak: float) -> None:
    assert set(rates(Schedule(name="constant"), peak, run[0] * run[1], run[1])) == {peak}
