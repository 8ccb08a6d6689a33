"""The learning rate of every step."""

from smidgen.config import Schedule


def rate(schedule: Schedule, peak: float, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` of `num_steps`, counted from 0; `peak` is the highest.

    one-cycle rises linearly from 0 to `peak` over the warm-up and falls linearly to 0 at the end of
    the run; a step has the rate of its middle. (Smith, Topin: Super-Convergence, 2018, without its
    third phase.)

    >>> cycle = Schedule(name="one-cycle", warmup=0.5)
    >>> [rate(cycle, 1.0, step, 4, 4) for step in range(4)]
    [0.25, 0.75, 0.75, 0.25]
    >>> [rate(Schedule(name="step", step_size=1, gamma=0.5), 1.0, step, 4, 2) for step in range(4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    if schedule.name == "step":
        return float(peak * schedule.gamma ** (step // steps_per_epoch // schedule.step_size))
    if schedule.name == "one-cycle":
        done = (step + 0.5) / num_steps
        warm = schedule.warmup
        return peak * (done / warm if done < warm else (1 - done) / (1 - warm))
    return peak
