"""Settings of a training: read from TOML, and every slip answered by one clear ValueError."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from jaxmap.networks.hong import BORDER, output_side
from jaxmap.networks.unet import ResidualUNet
from jaxmap.training.layouts import Layout
from jaxmap.training.noise import NoiseRanges
from jaxmap.training.settings import (
    GivenMaps,
    SimulatedMaps,
    Training,
    read_training,
    training_from,
)
from jaxmap.training.survey_settings import Clusters

STEPS = {"num_steps": 10}
GIVEN = {"maps": "folder", "pixel_arcmin": 0.3}
EXAMPLE = """
seed = 3
[schedule]
num_steps = 10
learning_rate = 1
[network]
channels = [8, 16]
[noise]
shares = [1, 0, 0.5]
[[layouts]]
side = 32
batch = 2
[[layouts]]
side = 64
batch = 1
share = 2
window = 32
[maps]
maps = "folder"
pixel_arcmin = 0.29
rim_arcmin = 3
"""


def test_settings_of_a_file(tmp_path):
    path = tmp_path / "training.toml"
    path.write_text(EXAMPLE)
    settings, table = read_training(path)
    assert settings.schedule.learning_rate == 1.0 and settings.seed == 3
    assert settings.network == ResidualUNet((8, 16))
    assert settings.noise == NoiseRanges(shares=(1.0, 0.0, 0.5))
    assert settings.layouts == (Layout(32, 2), Layout(64, 1, 2.0, 32))
    assert settings.source == GivenMaps("folder", 0.29, rim_arcmin=3.0)
    assert settings.source.rim == 11
    assert table["network"] == {"channels": [8, 16]}
    hash(settings.layouts), hash(settings.noise), hash(settings.network)


def test_what_is_left_out_keeps_its_default():
    settings = training_from({"schedule": STEPS})
    assert settings == Training(settings.schedule)
    assert settings.source == SimulatedMaps()


def test_shipped_settings_are_valid():
    for path in (Path(__file__).parents[1] / "experiments" / "training").glob("*.toml"):
        assert read_training(path)[0].layouts


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"\[schedule\] is missing"),
        ({"schedule": 3}, r"schedule is 3; expected a table: \[schedule\]"),
        ({"schedule": {}}, r"\[schedule\] lacks num_steps"),
        ({"schedule": STEPS, "sead": 1}, r"unknown settings \['sead'\]; expected .*'seed'"),
    ],
)
def test_tables_that_are_wrong(table, message):
    with pytest.raises(ValueError, match=message):
        training_from(table)


@pytest.mark.parametrize(
    ("where", "values", "message"),
    [
        ("schedule", {"num_steps": 0}, "num_steps is 0; expected 1 or more"),
        ("schedule", {"num_steps": 10.5}, "num_steps is 10.5; expected a whole number"),
        ("schedule", {"num_steps": True}, "num_steps is True; expected a whole number"),
        ("schedule", {**STEPS, "typo": 1}, r"unknown settings \['typo'\]; expected .*'clip'"),
        ("schedule", {**STEPS, "learning_rate": "x"}, "learning_rate is 'x'; expected a finite"),
        ("schedule", {**STEPS, "learning_rate": math.nan}, "is nan; expected a finite number"),
        ("schedule", {**STEPS, "clip": math.inf}, "clip is inf; expected a finite number"),
        ("schedule", {**STEPS, "clip": -1}, "clip is -1.0; expected a number above 0"),
        ("schedule", {**STEPS, "warmup_steps": -1}, "warmup_steps is -1; expected 0 or more"),
        ("network", {"channels": 32}, "channels is 32; expected a list, each a whole number"),
        ("network", {"channels": [8.5]}, r"channels is \[8.5\]; expected a list, each a whole"),
        ("network", {"channels": []}, r"channels is \(\); expected one size above 0 or more"),
        ("network", {"channels": [8, -1]}, r"channels is \(8, -1\); expected one size above 0"),
        ("network", {"blocks": 0}, "blocks is 0; expected 1 or more"),
        ("network", {"parent": 1}, r"unknown settings \['parent'\]"),
        ("network", {"half": 1}, "half is 1; expected true or false"),
        ("noise", {"galaxies": 3}, "galaxies is 3; expected a list of 2, each a finite number"),
        ("noise", {"galaxies": [1, 2, 3]}, r"galaxies is \[1, 2, 3\]; expected a list of 2"),
        ("noise", {"level": ["a", "b"]}, r"level is \['a', 'b'\]; expected a list of 2"),
        ("noise", {"level": [0, 1]}, r"level is \(0.0, 1.0\); expected two numbers above 0"),
        ("noise", {"star_pixels": [5, 3]}, "expected two numbers above 0, the least first"),
        ("noise", {"shares": [0, 0, 0]}, "expected numbers of 0 or more, not all 0"),
        ("noise", {"shares": [2, -1, 1]}, "expected numbers of 0 or more, not all 0"),
        ("maps", "folder", r"maps is 'folder'; expected a table: \[maps\]"),
        ("maps", {"pixel_arcmin": 0}, "pixel_arcmin is 0.0; expected a number above 0"),
        ("maps", {"baryons": "TNG"}, "baryons is 'TNG'; expected 'tng'"),
        ("maps", {"num_maps": 3}, r"unknown settings \['num_maps'\]; expected .*'nz'"),
        ("maps", {"maps": "folder"}, "lacks pixel_arcmin"),
        ("maps", {**GIVEN, "maps": 3}, "maps is 3; expected a text"),
        ("maps", {**GIVEN, "nz": "file"}, r"unknown settings \['nz'\]; expected .*'num_maps'"),
        ("maps", {**GIVEN, "validation_fraction": 1}, "validation_fraction is 1.0; expected a num"),
        ("maps", {**GIVEN, "num_maps": 1}, "num_maps is 1; expected 2 or more"),
        ("maps", {**GIVEN, "rim_arcmin": -1}, "rim_arcmin is -1.0; expected 0 or more"),
        ("layouts", {"side": 16}, r"layouts is .*; expected a table \[\[layouts\]\] for each"),
        ("layouts", [], r"layouts is \(\); expected at least one"),
        ("layouts", [3], r"is 3; expected a table: \[\[layouts\]\]"),
        ("layouts", [{"side": 16}], r"\[\[layouts\]\] lacks batch"),
        ("layouts", [{"side": 16, "batch": 1.5}], "batch is 1.5; expected a whole number"),
        ("layouts", [{"side": 16, "batch": 1, "window": 20}], "has window 20 and margin 0"),
        ("seed", -1, "seed is -1; expected 0 or more"),
        ("seed", [1], r"seed is \[1\]; expected a whole number"),
        ("validate_every", 0, "validate_every is 0; expected 1 or more"),
        ("checkpoint_every", "x", "checkpoint_every is 'x'; expected a whole number"),
        ("start", 3, "start is 3; expected a text"),
    ],
)
def test_values_that_are_wrong(where, values, message):
    with pytest.raises(ValueError, match=message):
        training_from({"schedule": STEPS, where: values})


def test_the_file_is_named(tmp_path):
    path = tmp_path / "training.toml"
    for text, message in (
        ("[schedule", "cannot read the configuration"),
        ("[schedule]\nnum_steps = -1", "num_steps is -1"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"training\.toml: .*{message}|{message}.*training"):
            read_training(path)
    path.write_bytes(b"\xff\xfe")
    for bad in (path, tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(ValueError, match="cannot read the configuration"):
            read_training(bad)


def test_settings_made_in_python_are_checked_too():
    schedule: Any = training_from({"schedule": STEPS}).schedule
    with pytest.raises(ValueError, match="layouts is"):
        Training(schedule, layouts=())


@pytest.mark.parametrize("side", [87, 88, 501])
def test_cluster_networks_have_an_output_inside_their_border(side):
    """Below 89 pixels there is nothing that a loss could be the mean of."""
    with pytest.raises(ValueError, match=f"side is {side}; expected 89 to 500 pixels"):
        Clusters(side=side)
    assert output_side(Clusters(side=89).side) - 2 * BORDER == 1
