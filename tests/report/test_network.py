from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smidgen.record import RunRecord
from smidgen.report import read_run
from smidgen.report.network import feature_maps, filters, network, network_tables


def test_bars_show_the_shares_of_parameters_and_macs(record: RunRecord) -> None:
    profile = record.profile
    layers, totals, receptive_field = network_tables(profile)
    assert [table.title for table in (layers, totals, receptive_field)] == [
        "Layers",
        "Totals",
        "Receptive field",
    ]
    assert layers.header[2:4] == ("Param #", "MACs")
    assert layers.bars[2][0] == profile.layers[0].params / profile.num_params
    assert sum(layers.bars[3]) == pytest.approx(1)


def test_what_the_profile_could_not_determine_is_said(finished_folder: Path) -> None:
    run = read_run(finished_folder)
    assert run.record is not None
    layers = (replace(run.record.profile.layers[0], rf_probed=True),)
    profile = replace(run.record.profile, layers=layers, notes=("Something is not known.",))
    section = network(replace(run, record=replace(run.record, profile=profile)))
    before = network(run)
    assert section is not None
    assert before is not None
    assert "measured by a probe" in section.text
    assert section.text.endswith(" Something is not known.")
    assert "probe" not in before.text


def test_filters_are_orange_below_zero_and_blue_above() -> None:
    found = filters(np.array([[[[-1.0, 0.0, 1.0]]]], np.float32))
    assert found[0, 0, :, :3].tolist() == [[213, 94, 0], [255, 255, 255], [0, 114, 178]]
    two = filters(np.array([[[[4.0]], [[-2.0]]]], np.float32))
    assert two[0, 0, 0, :3].tolist() == [0, 114, 178]
    rgb = filters(np.array([[[[1.0]], [[0.0]], [[-1.0]]]], np.float32))
    assert rgb[0, 0, 0, :3].tolist() == [255, 128, 0]
    assert (filters(np.zeros((40, 1, 3, 3), np.float32)) == 255).all()


def test_each_feature_map_is_scaled_by_itself() -> None:
    maps = np.array([[[0.0, 1.0]], [[5.0, 9.0]], [[np.inf, 0.0]]], np.float16)
    shown = feature_maps(maps)
    assert shown[:2, 0, :, 0].tolist() == [[0, 255], [0, 255]]
    assert len(feature_maps(np.zeros((100, 2, 2), np.float16))) == 32


def test_a_run_without_record_and_weights_has_no_such_section(finished_folder: Path) -> None:
    run = read_run(finished_folder)
    assert network(replace(run, record=None, weights={}, diagnostics={})) is None
