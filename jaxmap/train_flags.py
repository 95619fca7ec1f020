"""Flags of ``jaxmap train``; only the standard library is imported here."""

from __future__ import annotations

from typing import Any

from jaxmap.flags import add_general


def add_train(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a learned prior on simulated or given maps",
        description='Train the network that CONFIG.toml describes (kind = "denoiser", "score", or '
        'for one survey "deepmass-survey" or "gan", for clusters "hong"; tables [schedule], '
        "[network], [maps], [[layouts]] and, by kind, [noise], [score], [survey], [deepmass], "
        "[gan], [clusters]; see "
        "`jaxmap.training.settings`). The same command goes on "
        "where a training was stopped.",
    )
    parser.set_defaults(run="train_command.run_train", x64=False)
    parser.add_argument("settings", metavar="CONFIG.toml", help="what to train")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="jaxmap-training",
        help="output folder (default: %(default)s)",
    )
    add_general(parser.add_argument_group("general"))
