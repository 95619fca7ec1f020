"""What a training is: all its settings, from TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmap.networks.hong import HongNetwork
from jaxmap.networks.optimiser import Schedule
from jaxmap.networks.plain_unet import PlainUNet
from jaxmap.networks.score_unet import ScoreUNet
from jaxmap.networks.unet import ResidualUNet
from jaxmap.training.layouts import Layout
from jaxmap.training.noise import NoiseRanges
from jaxmap.training.survey_settings import Adversarial, Clusters, FirstMap, Survey
from jaxmap.training.tables import build, converted, require

LAYOUTS = (
    Layout(side=192, batch=8, share=0.6),
    Layout(side=384, batch=2, share=0.2),
    Layout(side=384, batch=4, share=0.2, window=192, margin=48),
)
"""Two thirds small maps, for speed; whole fields of survey size; and windows of larger maps."""

SCORE_LAYOUTS = (Layout(side=360, batch=32),)
"""Of the published score network."""

SURVEY_LAYOUTS = (Layout(side=384, batch=4),)
"""Of networks for one survey."""

CLUSTER_LAYOUTS = (Layout(side=84, batch=8),)
"""Of networks for clusters: cuts of maps of 0.4 arcmin that hold a field of 32 arcmin."""

KINDS = ("denoiser", "score", "deepmass-survey", "gan", "hong")
"""What can be trained: our denoiser, the residual score of the published prior, for one survey the
published DeepMass or a conditional GAN, and the network of Hong et al. for clusters."""

_PLAIN = {
    "seed": int,
    "validation_batches": int,
    "validate_every": int,
    "checkpoint_every": int,
    "gain_fields": int,
    "start": str,
}


@dataclass(frozen=True)
class SimulatedMaps:
    """Maps of the halo light cone, made as they are needed.

    Args:
        pixel_arcmin: side of a pixel.
        nz: file of n(z); the COSMOS one if none.
        redshift_stretch: factor on the redshifts of n(z).
        baryons: suppression of small scales: ``tng``, ``default`` or ``none``.
    """

    pixel_arcmin: float = 0.29
    nz: str | None = None
    redshift_stretch: float = 1.0
    baryons: str = "default"

    def __post_init__(self) -> None:
        if self.baryons not in ("tng", "default", "none"):
            raise ValueError(f"baryons is {self.baryons!r}; expected 'tng', 'default' or 'none'")
        for name in ("pixel_arcmin", "redshift_stretch"):
            require(self, name, getattr(self, name) > 0, "a number above 0")


@dataclass(frozen=True)
class GivenMaps:
    """Maps that somebody has made.

    Args:
        maps: folder, file or pattern (`jaxmap.reading.maps`).
        pixel_arcmin: side of a pixel; files that tell another are refused.
        format: of the files, as in `open_maps`; by default told from their names.
        dataset: name of the array or extension, where a file holds several.
        realisation: regular expression for the part of a map's name that tells independent
            simulations apart.
        validation_fraction: of the realisations to validate with, and not train on.
        num_maps: most maps to keep in memory, those for validation among them.
        rim_arcmin: that windows keep from the edges of a cut, where the shear of a map that is not
            periodic is wrong; 0 for periodic maps.
    """

    maps: str
    pixel_arcmin: float
    format: str = "auto"
    dataset: str | None = None
    realisation: str | None = None
    validation_fraction: float = 0.1
    num_maps: int = 256
    rim_arcmin: float = 5.0

    def __post_init__(self) -> None:
        require(self, "pixel_arcmin", self.pixel_arcmin > 0, "a number above 0")
        fraction = 0 < self.validation_fraction < 1
        require(self, "validation_fraction", fraction, "a number between 0 and 1")
        require(self, "num_maps", self.num_maps >= 2, "2 or more, one of them to validate with")
        require(self, "rim_arcmin", self.rim_arcmin >= 0, "0 or more")

    @property
    def rim(self) -> int:
        """``rim_arcmin`` in whole pixels."""
        return math.ceil(self.rim_arcmin / self.pixel_arcmin - 1e-9)


@dataclass(frozen=True)
class ScoreMatching:
    r"""How a score is learned.

    Args:
        spread: noise levels are drawn from :math:`N(0, \mathrm{spread}^2)`, in units of the maps.
        kernel_norm: largest spectral norm of a kernel; 0 for no limit.

    References:
        Remy et al., Sect. 5.2 and App. C.
    """

    spread: float = 0.2
    kernel_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self, "spread", self.spread > 0, "a number above 0")
        require(self, "kernel_norm", self.kernel_norm >= 0, "0 (for no limit) or more")


@dataclass(frozen=True)
class Training:
    """Settings of `jaxmap.training.loop.train`.

    Args:
        schedule: of the optimiser.
        kind: what to train, one of `KINDS`.
        network: architecture of a denoiser.
        noise: what noise to draw for a denoiser.
        score_network: architecture of a residual score.
        score: how that is learned.
        plain_network: architecture of a network for one survey.
        survey: which one.
        first_map: what the published DeepMass is given.
        adversarial: how a GAN is learned.
        hong_network: architecture of a network for clusters.
        clusters: which, and how they are learned.
        layouts: of the fields.
        source: of the maps.
        seed: of everything random.
        validation_batches: of every layout, at every validation.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        gain_fields: on which the spectral gain of a trained denoiser is measured; 0 for none.
        start: file of a denoiser to start from; a fresh network if none.
    """

    schedule: Schedule
    kind: str = "denoiser"
    network: ResidualUNet = ResidualUNet()  # noqa: RUF009 (frozen)
    noise: NoiseRanges = NoiseRanges()  # noqa: RUF009 (immutable)
    score_network: ScoreUNet = ScoreUNet()  # noqa: RUF009 (frozen)
    score: ScoreMatching = ScoreMatching()
    plain_network: PlainUNet = PlainUNet()  # noqa: RUF009 (frozen)
    survey: Survey = Survey()  # noqa: RUF009 (frozen)
    first_map: FirstMap = FirstMap()  # noqa: RUF009 (frozen)
    adversarial: Adversarial = Adversarial()  # noqa: RUF009 (frozen)
    hong_network: HongNetwork = HongNetwork()  # noqa: RUF009 (frozen)
    clusters: Clusters = Clusters()  # noqa: RUF009 (frozen)
    layouts: tuple[Layout, ...] = LAYOUTS
    source: SimulatedMaps | GivenMaps = SimulatedMaps()
    seed: int = 0
    validation_batches: int = 8
    validate_every: int = 400
    checkpoint_every: int = 100
    gain_fields: int = 128
    start: str | None = None

    def __post_init__(self) -> None:
        for name in ("seed", "gain_fields"):
            require(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("validation_batches", "validate_every", "checkpoint_every"):
            require(self, name, getattr(self, name) >= 1, "1 or more")
        require(self, "layouts", len(self.layouts) > 0, "at least one")
        require(self, "kind", self.kind in KINDS, " or ".join(KINDS))
        fresh = self.kind == "denoiser" or self.start is None
        scratch = f'nothing with kind = "{self.kind}", which starts from scratch'
        require(self, "start", fresh, scratch)
        if self.kind == "hong" and not isinstance(self.source, GivenMaps):
            raise ValueError(
                'kind = "hong" finds clusters in maps of yours; give [maps] with maps = "FOLDER" '
                "and pixel_arcmin (`jaxmap simulate maps` makes them)"
            )
        for network in (self.network, self.score_network, self.plain_network):
            levels = len(network.channels) > 0 and min(network.channels) > 0
            require(network, "channels", levels, "one size above 0 or more, one for each level")
            require(network, "blocks", network.blocks >= 1, "1 or more")
        require(self.network, "embedding", self.network.embedding >= 1, "1 or more")
        for name in ("galaxies", "shape_noise", "level", "star_pixels"):
            low, high = getattr(self.noise, name)
            require(self.noise, name, 0 < low <= high, "two numbers above 0, the least first")
        shares = min(self.noise.shares) >= 0 and sum(self.noise.shares) > 0
        require(self.noise, "shares", shares, "numbers of 0 or more, not all 0")


def read_training(path: str | Path) -> tuple[Training, dict[str, Any]]:
    """Read settings from TOML, and the plain tables behind them for the record.

    Tables ``[schedule]``, ``[network]``, ``[maps]``, ``[[layouts]]`` and, by kind, ``[noise]``
    (``denoiser``), ``[score]``, ``[survey]`` and ``[deepmass]`` (``deepmass-survey``),
    ``[survey]`` and ``[gan]``, or ``[clusters]`` (``hong``) have the arguments of the classes here
    and in `jaxmap.training.survey_settings`; what is left out keeps its default. ``[maps]`` with a
    key ``maps`` is `GivenMaps`, else `SimulatedMaps`.

    Raises:
        ValueError: for an unreadable file, an unknown key or a value out of range.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"cannot read the configuration {path}: {error}") from error
    try:
        return training_from(table), table
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def training_from(table: dict[str, Any]) -> Training:
    """Settings from the tables of a configuration.

    Raises:
        ValueError: for an unknown key, a value of another type, or one out of range.
    """
    maps = table.get("maps", {})
    given = isinstance(maps, dict) and "maps" in maps
    kind = converted(table.get("kind", "denoiser"), str, "kind")
    sections: dict[str, tuple[str, Any]] = {
        "schedule": ("schedule", Schedule),
        "maps": ("source", GivenMaps if given else SimulatedMaps),
    }
    parts: dict[str, Any] = {"kind": kind}
    if kind == "score":
        sections |= {"network": ("score_network", ScoreUNet), "score": ("score", ScoreMatching)}
        parts["layouts"] = SCORE_LAYOUTS
    elif kind in ("deepmass-survey", "gan"):
        sections |= {"network": ("plain_network", PlainUNet), "survey": ("survey", Survey)}
        sections |= (
            {"gan": ("adversarial", Adversarial)}
            if kind == "gan"
            else {"deepmass": ("first_map", FirstMap)}
        )
        parts["layouts"] = SURVEY_LAYOUTS
    elif kind == "hong":
        sections |= {"network": ("hong_network", HongNetwork), "clusters": ("clusters", Clusters)}
        parts["layouts"] = CLUSTER_LAYOUTS
    else:
        sections |= {"network": ("network", ResidualUNet), "noise": ("noise", NoiseRanges)}
    known = {"kind", *sections, "layouts", *_PLAIN}
    if unknown := set(table) - known:
        raise ValueError(f"unknown settings {sorted(unknown)}; expected {sorted(known)}")
    if "schedule" not in table:
        raise ValueError("[schedule] is missing; expected at least num_steps in it")
    parts |= {
        name: converted(table[name], kind, name) for name, kind in _PLAIN.items() if name in table
    }
    for name, (argument, wanted) in sections.items():
        if name in table:
            parts[argument] = build(wanted, table[name], name)
    if "layouts" in table:
        rows = table["layouts"]
        if not isinstance(rows, list):
            raise ValueError(f"layouts is {rows!r}; expected a table [[layouts]] for each of them")
        parts["layouts"] = tuple(build(Layout, row, "[layouts]") for row in rows)
    return Training(**parts)
