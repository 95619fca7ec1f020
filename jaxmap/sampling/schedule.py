"""The schedule of annealing: levels, steps, and when a chain may cool."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxmap.sampling.path_integral import simpson_weights
from jaxmap.sampling.probability_flow import LAST_LEVEL, NUM_STEPS


@dataclass(frozen=True)
class AnnealingSettings:
    r"""Schedule and kernel; the defaults are those of the paper and its released script.

    Args:
        sigma_start: first level :math:`\sigma_0`, wider than the density.
        sigma_floor: last level; no more than a tenth of the data's noise.
        cooling: ratio of a level to the one before.
        steps_per_level: trajectories in a round.
        step_size: leapfrog step at the first level.
        step_power: the step shrinks as :math:`(\sigma/\sigma_0)` to this power: 1/2 without a
            preconditioner, 0 with one, 1 for densities that are points at all levels.
        jitter: half-width of the random factor of the step.
        num_leapfrog: steps per trajectory.
        num_intervals: of Simpson's rule.
        min_acceptance: a chain cools after a round of at least this mean acceptance.
        max_rounds: rounds after which a chain is given up; None for twice the number of levels.
        chunk: rounds between two states of a run.
        flow_steps: of the probability flow to zero noise.
        flow_end: level at which it ends with a mean, as a fraction of the chain's; not below what
            the score was made for.

    Raises:
        ValueError: for settings out of range.

    References:
        Remy et al., Sect. 4.3.
    """

    sigma_start: float = 1.0
    sigma_floor: float = 8e-3
    cooling: float = 0.98
    steps_per_level: int = 12
    step_size: float = 0.013
    step_power: float = 0.5
    jitter: float = 0.5
    num_leapfrog: int = 3
    num_intervals: int = 4
    min_acceptance: float = 0.5
    max_rounds: int | None = None
    chunk: int = 10
    flow_steps: int = NUM_STEPS
    flow_end: float = LAST_LEVEL

    def __post_init__(self) -> None:
        if not 0 < self.sigma_floor <= self.sigma_start:
            raise ValueError(
                f"levels from {self.sigma_start} to {self.sigma_floor}; "
                "expected 0 < sigma_floor <= sigma_start"
            )
        if not 0 < self.cooling < 1:
            raise ValueError(f"cooling is {self.cooling}; expected a ratio between 0 and 1")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}; expected 0 (none) to less than 1")
        if not 0 < self.flow_end < 1:
            raise ValueError(f"flow_end is {self.flow_end}; expected a ratio between 0 and 1")
        if not self.step_size > 0:
            raise ValueError(f"step_size is {self.step_size}; expected a positive number")
        for name in ("steps_per_level", "num_leapfrog", "chunk", "flow_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        simpson_weights(self.num_intervals)

    @property
    def sigmas(self) -> np.ndarray:
        """All levels, from the first to the floor."""
        span = math.log(self.sigma_floor / self.sigma_start) / math.log(self.cooling)
        # Rounding must not add a second floor to a floor that is a whole number of levels away.
        number = math.ceil(span - 1e-9)
        return np.maximum(
            self.sigma_start * self.cooling ** np.arange(number + 1), self.sigma_floor
        )

    @property
    def last_round(self) -> int:
        """Rounds after which a chain is given up."""
        return 2 * len(self.sigmas) if self.max_rounds is None else self.max_rounds


PAPER = AnnealingSettings()
"""The schedule of the paper."""

PRECONDITIONED = AnnealingSettings(
    cooling=0.9, steps_per_level=2, step_size=0.35, step_power=0.0, num_leapfrog=6
)
"""For a preconditioner that fits: the density then has about unit width at every level, and a few
long trajectories take the place of many short ones."""
