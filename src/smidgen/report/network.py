"""What a network is made of: layers with their cost, receptive fields, filters, feature maps."""

import numpy as np
from numpy.typing import NDArray

from smidgen.record import Profile
from smidgen.record.profile import layer_rows, receptive_field_rows, total_rows
from smidgen.report.image_grid import Pixels, colored
from smidgen.report.network_plot import network_plot
from smidgen.report.page import Images, Section, Table
from smidgen.report.run_folder import RunFolder

_MOST_MAPS = 32  # filters and feature maps that are shown
_BARS = "Bars: each layer's share of all parameters, and of all multiply-adds."
_NEGATIVE, _POSITIVE = (213, 94, 0), (0, 114, 178)  # orange, blue


def network(run: RunFolder) -> Section | None:
    """The section about the network; None if nothing is known of it."""
    profile, samples = run.record and run.record.profile, run.diagnostics.get("samples")
    tables = network_tables(profile) if profile else []
    image = None if samples is None or not len(samples) else samples[len(samples) // 2]
    plots = [network_plot(profile, image)] if profile else []
    images = []
    if run.filters is not None:
        colors = "gray is 0" if run.filters.shape[1] == 3 else "orange is negative, blue positive"
        caption = f"Filters of the first convolution: {colors}"
        images.append(Images("filters", caption, filters(run.filters), size=42))
    if "maps" in run.diagnostics:
        caption = "Feature maps of the first convolution for one image"
        images.append(Images("feature-maps", caption, feature_maps(run.diagnostics["maps"])))
    if not tables and not images:
        return None
    return Section("Network", _network_text(profile) if profile else "", plots, tables, images)


def _network_text(profile: Profile) -> str:
    sentences = []
    if any(layer.rf_probed for layer in profile.layers):
        sentences.append(
            "A receptive field with * was measured by a probe, which cannot see beyond the image."
        )
    return " ".join([*sentences, *profile.notes])


def network_tables(profile: Profile) -> list[Table]:
    """Layers, totals and receptive fields."""
    layers = profile.layers
    costs = {2: [layer.params for layer in layers], 3: [layer.macs for layer in layers]}
    shares = {
        column: [max(0.0, cost / max(1, sum(found))) for cost in found]
        for column, found in costs.items()
    }
    return [
        Table(*layer_rows(profile), title="Layers", bars=shares, bars_show=_BARS),
        Table(("", ""), total_rows(profile), title="Totals"),
        Table(*receptive_field_rows(profile), title="Receptive field", text_columns=[1]),
    ]


def filters(weights: NDArray[np.float32]) -> Pixels:
    """The first convolution's kernels, (filters, channels, height, width), as colored images.

    White is 0; of any number of channels but three, the mean is shown.
    """
    kernels = weights[:_MOST_MAPS].transpose(0, 2, 3, 1)
    if kernels.shape[3] != 3:
        kernels = kernels.mean(3, keepdims=True)
    value = kernels / (float(np.abs(kernels).max()) or 1.0)
    if value.shape[3] == 3:
        rgb = ((value + 1) * 127.5).round()
    else:
        color = np.where(value < 0, _NEGATIVE, _POSITIVE)
        rgb = (255 + (color - 255) * np.abs(value)).round()
    opaque = np.full_like(rgb[..., :1], 255)
    pixels: Pixels = np.concatenate([rgb, opaque], axis=-1).astype(np.uint8)
    return pixels


def feature_maps(maps: NDArray[np.float16]) -> Pixels:
    """The first convolution's output for one image (maps, height, width), each scaled by itself."""
    shown = np.nan_to_num(maps[:_MOST_MAPS].astype(np.float32))  # float16 may overflow
    low = shown.min((1, 2), keepdims=True)
    span = np.maximum(shown.max((1, 2), keepdims=True) - low, 1e-6)
    return colored(np.round((shown - low) / span * 255).astype(np.uint8)[:, None])
