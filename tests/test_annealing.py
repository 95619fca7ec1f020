"""Annealed chains and the probability flow, on densities whose answers are known."""

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxmap.sampling import hmc
from jaxmap.sampling.annealing import anneal, begin, finish, sample_annealed
from jaxmap.sampling.probability_flow import flow_of_modes, flow_to_zero, flow_to_zero_adaptive
from jaxmap.sampling.rounds import advance_rounds
from jaxmap.sampling.schedule import PAPER, AnnealingSettings

KEY = jax.random.key(3)


def gaussian_score(variance, x, sigma):
    return -x / (variance + sigma**2)


VARIANCE = jnp.geomspace(0.01, 1.0, 6)
SCORE = Partial(gaussian_score, VARIANCE)
START = jax.random.normal(jax.random.key(8), (5, 6))
QUICK = AnnealingSettings(
    sigma_floor=0.1, cooling=0.6, steps_per_level=4, step_size=0.3, step_power=0.5, chunk=2
)


def point_score(points, x, sigma):
    """Score of equal point masses convolved with N(0, sigma^2)."""
    towards = points - x[None]
    weight = jax.nn.softmax(-jnp.sum(towards**2, axis=1) / (2 * sigma**2))
    return weight @ towards / sigma**2


def two_moons(num_first, num_second):
    """Two half circles, one with more points than the other, and which is which by sign of y."""
    one, two = (np.linspace(0.05, 0.95, n) * np.pi for n in (num_first, num_second))
    first = np.stack([np.cos(one) - 0.5, np.sin(one) + 0.15], axis=1)
    second = np.stack([0.5 - np.cos(two), -np.sin(two) - 0.15], axis=1)
    return jnp.asarray(np.concatenate([first, second]))


@pytest.mark.slow
def test_annealing_finds_both_moons_with_their_weights():
    """70 % of points in one moon, all chains started in the other.

    The share of chains there is right within 4 standard errors; they end on the points. At the
    floor alone steps leave every chain where it began.
    """
    num_chains = 400
    points = two_moons(70, 30)
    score = Partial(point_score, points)
    start = jnp.tile(points[85], (num_chains, 1))
    warm = AnnealingSettings(
        sigma_start=1.5,
        sigma_floor=0.05,
        cooling=0.85,
        steps_per_level=8,
        step_size=0.6,
        step_power=1.0,
    )
    samples, info = sample_annealed(KEY, start, score, warm)
    assert bool(info.finished.all())
    share = float(jnp.mean(samples[:, 1] > 0))
    assert abs(share - 0.7) < 4 * np.sqrt(0.7 * 0.3 / num_chains)
    nearest = jnp.min(jnp.linalg.norm(samples[:, None] - points[None], axis=2), axis=1)
    assert float(jnp.quantile(nearest, 0.95)) < 0.01

    cold = AnnealingSettings(
        sigma_start=0.05, sigma_floor=0.05, steps_per_level=100, step_size=0.02
    )
    stuck, _ = sample_annealed(KEY, start, score, cold)
    assert float(jnp.mean(stuck[:, 1] > 0)) == 0


def test_annealed_chains_sample_a_gaussian():
    """After the flow, variances within 5 standard errors of those without noise; and the control,
    chains before the flow, are not."""
    settings = AnnealingSettings(
        sigma_floor=0.1, cooling=0.8, steps_per_level=6, step_size=0.25, step_power=0.3
    )
    num_chains = 1000
    start = jax.random.normal(jax.random.key(0), (num_chains, 6))
    state = begin(start, SCORE, settings)
    for latest in anneal(KEY, state, SCORE, settings):
        state = latest
    samples, info = finish(state, SCORE, settings)
    error = np.sqrt(2 / num_chains)

    def off(x):
        return float(jnp.abs(jnp.mean(x**2, axis=0) / VARIANCE - 1).max()) / error

    assert off(samples) < 5
    assert off(state.chain.position) > 5
    assert float(jnp.abs(samples.mean(axis=0) / jnp.sqrt(VARIANCE / num_chains)).max()) < 5
    acceptance = info.statistics.acceptance
    assert acceptance.shape == (num_chains, len(settings.sigmas))
    assert 0.9 < float(acceptance.mean()) < 1
    np.testing.assert_array_equal(info.statistics.rounds.sum(axis=1) * 6, info.steps)


def test_evaluations_per_step():
    """Six, and one for every new level."""
    _, info = sample_annealed(KEY, START, SCORE, QUICK)
    per_step = (info.evaluations - 1 - 33) / info.steps
    np.testing.assert_allclose(per_step, 6 + 1 / QUICK.steps_per_level)


def test_a_round_is_made_of_steps():
    """Two rounds of a chain against their steps, with the keys and sizes that these should have."""
    keys = jax.random.split(KEY, len(START))
    identity = Partial(hmc.identity)
    after = advance_rounds(keys, begin(START, SCORE, QUICK), SCORE, QUICK, identity)
    step = jax.jit(lambda key, chain, size: hmc.step(key, chain, SCORE, size, 3, 4, 0.5, identity))
    position, infos = START[1], []
    for first, sigma in ((0, 1.0), (4, 0.6)):
        chain = hmc.init(position, jnp.asarray(sigma), SCORE)
        for number in range(first, first + 4):
            chain, info = step(jax.random.fold_in(keys[1], number), chain, 0.3 * sigma**0.5)
            infos.append(info)
        position = chain.position
    np.testing.assert_allclose(after.chain.position[1], position, rtol=1e-10)
    np.testing.assert_allclose(after.chain.sigma, 0.36)
    statistics = jax.tree.map(lambda leaf: leaf[1], after.statistics)
    assert statistics.rounds.tolist() == [1, 1, 0, 0, 0, 0]
    acceptance = np.asarray([info.acceptance for info in infos]).reshape(2, 4)
    np.testing.assert_allclose(statistics.acceptance[:2], acceptance.mean(axis=1), rtol=1e-10)
    error = np.asarray([info.energy_error for info in infos]).reshape(2, 4)
    np.testing.assert_allclose(statistics.energy_error[:2], (error**2).mean(axis=1), rtol=1e-8)


def test_statistics_of_several_rounds_are_means():
    state = begin(START, SCORE, QUICK)
    sums = state.statistics
    sums = sums._replace(
        rounds=sums.rounds.at[:, 1].set(4),
        acceptance=sums.acceptance.at[:, 1].set(3.0),
        energy_error=sums.energy_error.at[:, 1].set(1.0),
    )
    found = finish(state._replace(statistics=sums), SCORE, QUICK)[1].statistics
    expected = np.tile([0, 1, 0, 0, 0, 0], (5, 1))
    np.testing.assert_array_equal(found.rounds, 4 * expected)
    np.testing.assert_allclose(found.acceptance, 0.75 * expected)
    np.testing.assert_allclose(found.energy_error, 0.5 * expected)


def test_levels():
    sigmas = AnnealingSettings(sigma_start=1.0, sigma_floor=0.8, cooling=0.9).sigmas
    np.testing.assert_allclose(sigmas, [1, 0.9, 0.81, 0.8])
    np.testing.assert_allclose(
        AnnealingSettings(sigma_floor=0.25, cooling=0.5).sigmas, [1, 0.5, 0.25]
    )
    paper = AnnealingSettings().sigmas
    assert len(paper) == 240 and paper[-1] == 8e-3
    assert len(AnnealingSettings(sigma_start=0.1, sigma_floor=0.1).sigmas) == 1


def test_the_schedule_of_the_paper():
    """Levels from 1 fall by 2 %; 3 leapfrog steps of 0.013 sqrt(sigma), the rule of 5 points."""
    assert (PAPER.sigma_start, PAPER.cooling) == (1.0, 0.98)
    assert (PAPER.step_size, PAPER.step_power, PAPER.num_leapfrog) == (0.013, 0.5, 3)
    assert (PAPER.steps_per_level, PAPER.num_intervals) == (12, 4)


def test_when_a_chain_is_given_up():
    levels = len(QUICK.sigmas)
    assert levels == 6 and QUICK.last_round == 12
    assert replace(QUICK, max_rounds=5).last_round == 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sigma_floor": 0.0}, "0 < sigma_floor"),
        ({"sigma_start": 1e-3}, "0 < sigma_floor"),
        ({"cooling": 1.0}, "cooling is 1.0"),
        ({"cooling": 0.0}, "cooling is 0.0"),
        ({"step_size": -0.1}, "step_size is -0.1"),
        ({"jitter": 1.0}, "jitter is 1.0"),
        ({"num_leapfrog": 0}, "num_leapfrog is 0"),
        ({"num_intervals": 3}, "num_intervals is 3"),
    ],
)
def test_settings_out_of_range(settings, says):
    with pytest.raises(ValueError, match=says):
        AnnealingSettings(**settings)


def test_a_step_without_jitter_is_allowed():
    assert AnnealingSettings(jitter=0.0).jitter == 0


def test_chains_depend_on_key_and_number_alone():
    """The same samples again, beside other chains, and after an interruption."""
    whole, info = sample_annealed(KEY, START, SCORE, QUICK)
    assert bool(info.finished.all())
    again, _ = sample_annealed(KEY, START, SCORE, QUICK)
    np.testing.assert_array_equal(whole, again)
    other, _ = sample_annealed(jax.random.key(0), START, SCORE, QUICK)
    assert not np.allclose(whole, other)
    shifted, _ = sample_annealed(KEY, jnp.roll(START, -3, axis=0), SCORE, QUICK, first=3)
    np.testing.assert_allclose(shifted[:2], whole[3:], rtol=1e-10)

    run = anneal(KEY, begin(START, SCORE, QUICK), SCORE, QUICK)
    next(run)
    kept = jax.tree.map(np.asarray, next(run))  # as from a file
    state = jax.tree.map(jnp.asarray, kept)
    for latest in anneal(KEY, state, SCORE, QUICK):
        state = latest
    np.testing.assert_array_equal(finish(state, SCORE, QUICK)[0], whole)


def test_progress_sees_every_chunk():
    seen = []

    def watch(run):
        for state in run:
            seen.append(float(state.level.mean()))
            yield state

    sample_annealed(KEY, START, SCORE, QUICK, progress=watch)
    num_levels = len(QUICK.sigmas)
    assert seen == [*range(2, num_levels, 2), num_levels]


@pytest.mark.slow
def test_chains_that_are_refused_stay_warm_and_are_reported(caplog):
    """Each by itself: one in a well too narrow for its steps, one where all are accepted."""

    def well_beside_hill(x, sigma):
        return jnp.where(x > 5, -1e8 * (x - 50), -x / (1 + sigma**2))

    start = jnp.asarray([[0.0, 0.0], [50.0, 50.0]])
    with caplog.at_level(logging.WARNING):
        _, info = sample_annealed(KEY, start, well_beside_hill, QUICK)
    assert info.finished.tolist() == [True, False]
    np.testing.assert_allclose(info.sigma, [0.1, 1.0])
    assert int(info.statistics.rounds[1, 0]) == QUICK.last_round
    assert "1 of 2 chains did not finish" in caplog.text and "lower step_size" in caplog.text
    caplog.clear()
    sample_annealed(KEY, start[:1], well_beside_hill, QUICK)
    assert not caplog.text


def score_above(least, variance, x, sigma):
    """That of a Gaussian, and NaN at levels below the least."""
    return jnp.where(sigma < least, jnp.nan, gaussian_score(variance, x, sigma))


@pytest.mark.parametrize(
    ("least", "where"),
    [
        (0.3, r"score of chain 3 .* after \d+ rounds, at level 4 of 6 \(sigma = 0.216\)"),
        (0.05, r"chain 3 .* from step 2 of 9 of its flow to zero noise on \(from sigma = 0.0699"),
    ],
)
def test_a_score_that_is_not_finite_is_named_with_its_level(least, where):
    score = Partial(score_above, least, VARIANCE)
    with pytest.raises(FloatingPointError, match=f"{where}.*check the units .*raise sigma_floor"):
        sample_annealed(KEY, START, score, QUICK, first=3)


def test_the_broken_chain_is_named_among_the_others():
    """The third of those that begin with number 3."""
    broken = START.at[2, 1].set(jnp.nan)
    with pytest.raises(FloatingPointError, match=r"position of chain 5 .* after 0 rounds"):
        next(anneal(KEY, begin(broken, SCORE, QUICK), SCORE, QUICK, first=3))
    state = begin(START, SCORE, QUICK)
    chain = state.chain._replace(position=broken)
    with pytest.raises(FloatingPointError, match=r"^chain 5 is not finite from step 1 of"):
        finish(state._replace(chain=chain), SCORE, QUICK, first=3)


def test_chains_are_numbered_from_zero():
    score = Partial(score_above, 0.9, VARIANCE)
    state = begin(START, SCORE, QUICK)
    with pytest.raises(FloatingPointError, match=r"^chain 0 is not finite from step"):
        finish(state, score, QUICK)


@pytest.mark.slow
def test_a_broken_chain_ends_its_chunk_and_is_named():
    """Whether it starts broken or breaks on the way; the control goes on to the end."""
    long = replace(QUICK, chunk=40)
    keys = jax.random.split(KEY, len(START))
    for least, level in ((0.3, 3), (0.0, 6)):
        score = Partial(score_above, least, VARIANCE)
        state = advance_rounds(keys, begin(START, score, long), score, long, Partial(hmc.identity))
        assert int(state.level.max()) == level
    broken = START.at[2, 1].set(jnp.nan)
    where = r"position of chain 2 .* after 0 rounds, at level 1"
    with pytest.raises(FloatingPointError, match=where):
        next(anneal(KEY, begin(broken, SCORE, QUICK), SCORE, QUICK))


def test_compiled_once():
    """For all chunks of a run, and for a score with other arrays in it."""
    traces = []

    def counted(variance, x, sigma):
        traces.append(1)
        return gaussian_score(variance, x, sigma)

    score = Partial(counted, VARIANCE)
    run = anneal(KEY, begin(START, score, QUICK), score, QUICK)
    next(run)
    after_one_chunk = len(traces)
    next(run)
    assert len(traces) == after_one_chunk
    sample_annealed(KEY, START, score, QUICK)
    after_one_run = len(traces)
    sample_annealed(jax.random.key(1), START + 1, Partial(counted, 2 * VARIANCE), QUICK)
    assert len(traces) == after_one_run


def test_precision(dtype):
    score = Partial(gaussian_score, VARIANCE.astype(dtype))
    samples, info = sample_annealed(KEY, START.astype(dtype), score, QUICK)
    assert samples.dtype == info.sigma.dtype == dtype
    assert bool(jnp.isfinite(samples).all())


@pytest.mark.parametrize("flow", [flow_to_zero, flow_to_zero_adaptive])
def test_the_flow_takes_off_the_noise_mode_by_mode(flow):
    """N(0, S + sigma^2) becomes N(0, S): every mode is scaled by a known factor, from each chain's
    own level; a flow that stops at a third of the level does not pass."""
    variance = jnp.asarray([0, 1e-4, 1e-2, 0.1, 1.0, 100.0])
    sigmas = jnp.asarray([0.3, 0.01])

    def factors(**settings):
        def one(sigma):
            # In units of the level, so that both chains ask the same of the flow.
            score = lambda x, s: -x / (variance * sigma**2 + s**2)  # noqa: E731
            return flow(jnp.ones(6), sigma, score, **settings)

        return jax.jit(jax.vmap(one))(sigmas)

    exact = jnp.tile(jnp.sqrt(variance / (variance + 1)), (2, 1))
    found = factors()
    np.testing.assert_allclose(found, exact, atol=3e-4)
    np.testing.assert_allclose(found[:, 2:] ** 2, exact[:, 2:] ** 2, rtol=2e-3)
    assert float(jnp.abs(factors(last_level=0.3) ** 2 / exact**2 - 1)[:, 2].max()) > 0.02


def test_the_flow_of_modes_keeps_narrow_ones():
    r"""Exact for a Gaussian field, though it ends at a noise s like the width of the narrowest; the
    control, a mean at that end, keeps :math:`V / (V + s^2)` of their power. With a fifth less
    variance than is right it is nearer than that."""
    frequency = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16))
    variance = jnp.asarray(1e-2 / (1 + (frequency / 0.1) ** 4))
    narrow = frequency > 0.4
    sigma, last = jnp.asarray(0.5), 0.003
    start = jax.random.normal(KEY, (16, 16))

    def filtered(field, window):
        return jnp.fft.ifft2(window * jnp.fft.fft2(field)).real

    def score(field, level):
        return -filtered(field, 1 / (variance + level**2))

    def lost(end):
        exact = filtered(start, jnp.sqrt(variance / (variance + sigma**2)))
        power = jnp.abs(jnp.fft.fft2(end) / jnp.fft.fft2(exact)) ** 2
        return 1 - power[narrow]

    end, finite = flow_of_modes(start, sigma, score, variance, last_level=last)
    assert finite.all() and float(jnp.abs(lost(end)).max()) < 1e-9
    by_mean = lost(flow_to_zero(start, sigma, score, num_steps=256, last_level=last))
    expected = 1 / (1 + variance[narrow] / (last * sigma) ** 2)
    np.testing.assert_allclose(by_mean, expected, rtol=0.01)
    rough, _ = flow_of_modes(start, sigma, score, 0.8 * variance, last_level=last)
    assert bool(jnp.all(jnp.abs(lost(rough)) < by_mean))


def test_the_flow_is_of_fourth_order():
    """In the number of steps, with the last level too low to matter."""
    numbers = [8, 16, 32]

    def end(num_steps):
        score = lambda x, s: -x / (1 + s**2) - 0.3 * jnp.sin(x) * s  # noqa: E731
        return flow_to_zero(
            jnp.ones(()), jnp.asarray(1.0), score, num_steps=num_steps, last_level=1e-6
        )

    exact = end(256)
    errors = [abs(float(end(n) - exact)) for n in numbers]
    order = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert order > 3.7
