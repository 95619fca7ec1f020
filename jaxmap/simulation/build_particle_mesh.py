"""Building a particle-mesh light cone: its times, distances and lensing weights."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxmap.machine import check_memory
from jaxmap.matter_power import PLANCK18, Cosmology, linear_power_table, matter_power
from jaxmap.redshifts import RedshiftDistribution, cosmos_redshifts
from jaxmap.simulation.particle_mesh import START, ParticleMesh, import_jaxpm
from jaxmap.simulation.shells import make_shells

_CHUNK = 2**24  # particles that jaxpm 0.1.6 paints at a time; it fails on a remainder
_MAX_Z = 1 / START - 2  # of the sources: no shell comes before the particles have set off


def build_particle_mesh(
    redshifts: RedshiftDistribution | None = None,
    cosmology: Cosmology = PLANCK18,
    *,
    box: float = 200.0,
    mesh: int = 256,
    thickness: float = 100.0,
    early_steps: int = 8,
) -> ParticleMesh:
    """Prepare `particle_mesh_map`; some seconds.

    Args:
        redshifts: n(z) of the sources; of COSMOS by default.
        cosmology: flat LCDM parameters.
        box: side of the periodic box, Mpc/h.
        mesh: particles along a side; beyond 256, a multiple of 256. The memory is 2 GiB for 128,
            15 for 256, 24 for 512 and 188 for 1024.
        thickness: of the shells in Mpc/h, at most the box.
        early_steps: from redshift 9 to the farthest shell; then one for each shell.

    Raises:
        ValueError: for lengths or numbers out of range, a mesh too large for the memory, or
            sources beyond redshift 8.
        ImportError: without jaxpm.
    """
    _check(box, mesh, thickness, early_steps)
    import_jaxpm()
    redshifts = cosmos_redshifts() if redshifts is None else redshifts
    last = float(np.asarray(redshifts.z)[np.asarray(redshifts.density) > 0].max())
    if last > _MAX_Z:
        raise ValueError(
            f"n(z) reaches redshift {last:g}; expected sources up to {_MAX_Z:g}, since the "
            "particles start a little earlier (cut the tail of n(z))"
        )
    shells = make_shells(matter_power(cosmology), redshifts, thickness, _MAX_Z)
    distance, z = shells.middle
    k, power = linear_power_table(cosmology)

    ends = 1 / (1 + z[::-1])
    a = np.concatenate([np.geomspace(START, ends[0], early_steps + 1), ends[1:]])
    between = np.concatenate([[START], np.sqrt(a[1:] * a[:-1])])
    growth, _ = linear_growth(a, cosmology.omega_m)
    _, momentum = linear_growth(between, cosmology.omega_m)
    return ParticleMesh(
        k=jnp.asarray(k, float),
        power=jnp.asarray(power, float),
        kick=jnp.asarray(np.diff(momentum) / growth[:-1], float),
        drift=jnp.asarray(np.diff(growth) / momentum[1:], float),
        distance=jnp.asarray(distance[::-1], float),
        z=jnp.asarray(z[::-1], float),
        width=jnp.asarray(np.diff(shells.edges)[::-1], float),
        weight=jnp.asarray(shells.lensing_weight[::-1], float),
        cosmology=cosmology,
        box=float(box),
        mesh=mesh,
        plane_mesh=2 * mesh,
    )


def linear_growth(a: np.ndarray, omega_m: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Growth factor of flat LCDM, 1 today, and :math:`G = a^3 E\, dD/da`.

    .. math:: D \propto E(a) \int_0^a \frac{da'}{(a' E(a'))^3}

    References:
        Heath (1977), MNRAS 179, 351.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    a = np.append(np.asarray(a, float), 1.0)
    # In the root of a' the integrand is smooth down to zero.
    part = a[:, None] * ((1 + nodes) / 2) ** 2
    expansion = np.sqrt(omega_m / a**3 + 1 - omega_m)
    inner = part**3 * (omega_m / part**3 + 1 - omega_m) ** 1.5
    integral = np.sum(weights / 2 * (1 + nodes) * a[:, None] / inner, axis=1)
    growth = expansion * integral
    slope = -1.5 * omega_m / (a**4 * expansion) * integral + 1 / (a**3 * expansion**2)
    momentum = a**3 * expansion * slope / growth[-1]
    return (growth / growth[-1])[:-1], momentum[:-1]


def _check(box: float, mesh: int, thickness: float, early_steps: int) -> None:
    limits = {
        "box": (box, 40.0, 2000.0),
        "mesh": (mesh, 16, 4096),
        "thickness": (thickness, 40.0, min(box, 500.0)),
        "early_steps": (early_steps, 1, 1000),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name} is {value:g}; expected a number from {low:g} to {high:g}")
    if mesh**3 > _CHUNK and mesh**3 % _CHUNK != 0:
        raise ValueError(f"mesh is {mesh}; expected a number up to 256, or a multiple of 256")
    # As XLA states it for the compiled program: neighbours of a chunk, or all else.
    needed = max(960 * min(mesh**3, _CHUNK), 190 * mesh**3)
    check_memory(needed, f"a box of {mesh}^3 particles", "take a smaller mesh")
