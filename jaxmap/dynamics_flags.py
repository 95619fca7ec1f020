"""Flags of ``jaxmap dynamics``; only the standard library is imported here."""

from __future__ import annotations

import argparse
from typing import Any

from jaxmap.flags import add_action, add_common, mapping, whole

MODELS = ("m_sigma_pure", "m_sigma_contaminated", "sdm1d", "sdm2d", "cnn1d", "cnn2d")
TRAINABLE = ("m_sigma", "sdm1d", "sdm2d", "cnn1d", "cnn2d")
PRESETS = ("default", "paper", "v1", "post-review", "head")


def add_dynamics(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dynamics",
        help="masses of galaxy clusters from the velocities of their galaxies",
        description="Dynamical masses of galaxy clusters: estimate them, train estimators, make "
        "synthetic clusters, and evaluate.",
    )
    actions = parser.add_subparsers(dest="command", metavar="ACTION", required=True)
    _add_estimate(actions)
    _add_train(actions)
    _add_mock(actions)
    _add_evaluate(actions)


def _add_estimate(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "dynamics estimate",
        "masses of clusters in a catalogue",
        "Read galaxies of clusters (one row each: cluster, radius_mpc_h, "
        "velocity_km_s), cut them to the cylinder of the training, and write a table of log10 "
        "M200c / (Msun/h) with errors and flags: 1 too few galaxies, 2 all at one velocity, 4 "
        "beyond the training, 8 fewer galaxies than in the training (sums of these).",
    )
    parser.add_argument(
        "catalog", nargs="?", help="FITS, CSV, ECSV, HDF5, Parquet or halo_cnn file"
    )
    parser.add_argument(
        "--model", choices=MODELS, default="cnn2d", help="shipped estimator (default cnn2d)"
    )
    parser.add_argument("--weights", metavar="FILE", help="instead, one of `jaxmap dynamics train`")
    parser.add_argument(
        "--out", metavar="FILE", default="masses.ecsv", help="table (default masses.ecsv)"
    )
    _add_catalogue(parser)
    add_common(parser, "dynamics_command.run_estimate")


def _add_train(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "dynamics train",
        "train an estimator on clusters of known mass",
        "Train on a catalogue with log10_mass, or on synthetic clusters made for it "
        "(spread evenly over log10 mass). cnn1d and cnn2d that were stopped go on by the same "
        "command, from checkpoints in a folder FILE-....partial beside the output, which is "
        "removed at the end.",
    )
    parser.add_argument("catalog", nargs="?", help="clusters of known mass (default: mocks)")
    parser.add_argument(
        "--model", choices=TRAINABLE, default="cnn2d", help="what to train (default cnn2d)"
    )
    parser.add_argument(
        "--num", type=whole, default=10_000, help="synthetic clusters (default 10000)"
    )
    parser.add_argument(
        "--preset", choices=PRESETS, default="default", help="of cnn1d and cnn2d (default default)"
    )
    parser.add_argument(
        "--num-networks", type=whole, default=3, help="of cnn1d and cnn2d (default 3)"
    )
    parser.add_argument(
        "--num-landmarks", type=whole, default=300, help="of sdm1d and sdm2d (default 300)"
    )
    parser.add_argument(
        "--out", metavar="FILE.npz", default="cluster-model.npz", help="the trained estimator"
    )
    _add_catalogue(parser)
    add_common(parser, "dynamics_command.run_train")


def _add_mock(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "dynamics mock",
        "make synthetic clusters",
        "Synthetic halo-model clusters at redshift 0.117 (not MDPL2): galaxies in a "
        "cylinder, with the truth. One seed gives one catalogue.",
    )
    parser.add_argument("--num", type=whole, default=1000, help="haloes (default 1000)")
    parser.add_argument(
        "--flat", action="store_true", help="spread evenly over log10 mass 13.5 to 15.3, to train"
    )
    parser.add_argument("--pure", action="store_true", help="the haloes' own galaxies only, all")
    parser.add_argument(
        "--num-lines", type=whole, default=1, help="lines of sight to each (default 1)"
    )
    parser.add_argument(
        "--out", metavar="FILE", default="clusters.fits", help="default clusters.fits"
    )
    add_common(parser, "dynamics_command.run_mock")


def _add_evaluate(subparsers: Any) -> None:
    parser = add_action(
        subparsers,
        "dynamics evaluate",
        "bias and scatter of estimators on synthetic clusters",
        "Make synthetic clusters with the masses of haloes from 10^14 to 10^15 Msun/h, "
        "which no shipped estimator was trained on, and print how good the masses are.",
    )
    parser.add_argument("--num", type=whole, help="clusters (default 8000; with --quick, 2000)")
    parser.add_argument("--quick", action="store_true", help="fewer clusters: under two minutes")
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--models",
        type=lambda text: text.split(","),
        default=list(MODELS),
        help=f"comma-separated, of {','.join(MODELS)} (default all)",
    )
    add_common(parser, "dynamics_command.run_evaluate")


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("catalogue")
    group.add_argument(
        "--columns",
        type=mapping,
        metavar="ROLE=NAME,...",
        help="e.g. cluster=id,radius_mpc_h=R,velocity_km_s=v",
    )
    group.add_argument("--redshift", type=float, help="of the clusters (default: of the file)")
    group.add_argument(
        "--aperture",
        type=float,
        metavar="MPC_H",
        help="radius of the cylinder (default: the estimator's, 1.6; M-sigma of members: none)",
    )
    group.add_argument(
        "--velocity-cut",
        type=float,
        metavar="KM_S",
        help="its half length (default: the estimator's, 2200; M-sigma of members: none)",
    )
