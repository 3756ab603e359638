"""Did something on the coast change the clarity of the water? (arXiv 2603.07331)

Ocean-colour rasters or zone tables -> zone series -> breakpoints -> Bayesian structural time series
-> placebos -> euphotic depth -> report.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr
from pydantic import Field, model_validator

from eo_causal.core.settings import Bounds
from eo_causal.impact.breakpoints import BreakSettings, find_breakpoints
from eo_causal.impact.checks import CheckSettings
from eo_causal.impact.estimate import (
    check_zone_impact,
    estimate_zone_impact,
)
from eo_causal.impact.landcover import IntensitySettings, intensity_analysis
from eo_causal.impact.model import ImpactSettings
from eo_causal.impact.optics import DepthSettings, depth_change
from eo_causal.impact.published import PublishedSettings, compare_with_publication
from eo_causal.impact.zones import RoleSettings
from eo_causal.ingest.datasets import dataset_path
from eo_causal.ingest.harmonise import fit_harmonisation
from eo_causal.ingest.land_cover import LandCoverSource, read_land_cover
from eo_causal.ingest.water import (
    WaterSourceSettings,
    before_after_layers,
    coastline_path,
    compare_with_raster,
    cube_zones,
    find_files,
    merge_sensors,
    read_coastline,
    read_cube,
    read_tables,
    read_truth,
    sensor_record,
    source_paths,
)
from eo_causal.ingest.zonal import ZoneSettings, zone_frame
from eo_causal.report.impact_report import (
    ImpactStudy,
    ReportSettings,
    display_units,
    write_impact_report,
)
from eo_causal.run.config import DataSettings, PipelineConfig, study_yaml
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.coast import ZONES, CoastSettings, write_coast


class WaterData(WaterSourceSettings, DataSettings):
    """Rasters, tables, or a simulated coast."""

    simulate: CoastSettings | None = Field(default=None, description="simulate the input files")

    @model_validator(mode="after")
    def _simulated_or_given(self) -> "WaterData":
        if self.simulate is not None and (self.files or self.sensors or self.tables):
            raise ValueError("`simulate` makes the input; give no `files`, `sensors` or `tables`")
        return self


class LandCover(LandCoverSource, IntensitySettings):
    """Annual land-cover maps beside the water."""

    @property
    def path(self) -> Path:
        """The file, of the data set or as given."""
        return dataset_path(self.dataset, self.file) if self.dataset else Path(self.file)


class WaterReport(ReportSettings):
    """How the report looks."""

    coastline: str | None = Field(
        default=None, description="file of data set natural-earth, coastline or land, for maps"
    )


class Config(PipelineConfig):
    """Settings of a water-clarity study."""

    data: WaterData = WaterData()
    zones: dict[str, Bounds] = Field(default={}, description="zone -> [west, south, east, north]")
    zone_means: ZoneSettings = ZoneSettings()
    roles: RoleSettings = RoleSettings()
    breaks: BreakSettings = BreakSettings()
    impact: ImpactSettings
    checks: CheckSettings = CheckSettings()
    depth: DepthSettings = DepthSettings()
    land_cover: LandCover | None = None
    published: PublishedSettings | None = Field(
        default=None, description="numbers of a publication to print beside"
    )
    report: WaterReport = WaterReport()

    @model_validator(mode="after")
    def _zones_have_roles(self) -> "Config":
        known = set(self.data.tables) or set(self.boxes)
        missing = {self.roles.impact, *self.roles.controls} - known
        if missing:
            raise ValueError(
                f"roles: {', '.join(sorted(missing))} not among the zones ({', '.join(known)})"
            )
        return self

    @property
    def boxes(self) -> dict[str, Bounds]:
        """Zone boxes: the config's, else those of the simulated coast."""
        return self.zones or (ZONES if self.data.simulate else {})


class Sources(NamedTuple):
    """What the data say before any model."""

    zones: xr.Dataset
    layers: xr.Dataset | None
    truth: dict[str, Any] | None
    tables: dict[str, pd.DataFrame]


def run(config: Config, stage: Stages) -> None:
    """The study, top to bottom."""
    roles, settings, show = config.roles, config.impact, config.report
    data = _read_tables(config, stage) if config.data.tables else _read_rasters(config, stage)
    zones, start = data.zones, settings.intervention
    frame = stage("frame", zone_frame, config.boxes) if config.boxes else None
    changes = config.data.sensor_changes
    if changes:
        data.tables["sensor_changes"] = stage("sensors", sensor_record, zones, changes, start)

    breaks = stage("breaks", find_breakpoints, zones, roles.impact, roles.controls, start,
                   config.breaks, config.mode)  # fmt: skip
    impact = stage("impact", estimate_zone_impact, zones, roles, settings, config.mode)
    checks = stage("checks", check_zone_impact, zones, impact, roles, settings, config.checks,
                   config.mode)  # fmt: skip
    depth = stage("depth", depth_change, impact, config.depth)
    land_change = comparison = coastline = None
    if config.land_cover is not None:
        files = stage.inputs([config.land_cover.path])
        maps = stage("land_cover", read_land_cover, files, config.land_cover)
        land_change = stage("land_change", intensity_analysis, maps, config.land_cover)
    if config.published is not None:
        units = display_units(show.display_scale, impact.units)
        comparison = stage("published", compare_with_publication, impact, checks, depth,
                           config.published, show.display_scale, units)  # fmt: skip
    background = coastline_path(show.coastline) if show.coastline else None
    if background is not None:
        coastline = stage("coastline", read_coastline, stage.inputs([background]))

    study = ImpactStudy(
        title=config.title or "Water clarity", question=config.question or "Did the water change?",
        impact_zone=roles.impact, zones=zones, zone_frame=frame, breaks=breaks, impact=impact,
        checks=checks, depth=depth, land_cover=land_change, layers=data.layers,
        coastline=coastline, comparison=comparison, published=config.published, mode=config.mode,
        truth=data.truth, data_tables=data.tables, sensor_changes=changes, ledger=stage.ledger(),
        warnings=stage.warnings(), provenance=provenance(config, stage),
        config_text=study_yaml(config),
    )  # fmt: skip
    stage("report", write_impact_report, study, show)


def _read_tables(config: Config, stage: Stages) -> Sources:
    """Zone tables, held against a raster where one is named."""
    data, tables = config.data, {}
    zones = stage("zones", read_tables, stage.inputs(source_paths(data), data.lock), data)
    if data.raster_check is not None:
        raster = stage.inputs(find_files((data.raster_check.file,), data.dataset))
        tables["raster_check"] = stage(
            "raster_check", compare_with_raster, raster, zones, config.boxes, data.raster_check
        )
    return Sources(zones, None, None, tables)


def _read_rasters(config: Config, stage: Stages) -> Sources:
    """One cube from simulated, several sensors' or plain files, and its zone means."""
    data, truth, tables = config.data, None, {}
    if data.simulate is not None:
        folder = stage("simulate", write_coast, data.simulate)
        truth = stage("truth", read_truth, folder)
        kd490 = stage("ingest", read_cube, folder, data)
    elif data.sensors:
        kd490, tables["harmonisation"] = _harmonised(data, stage)
    else:
        kd490 = stage("ingest", read_cube, stage.inputs(source_paths(data), data.lock), data)
    zones = stage("zones", cube_zones, kd490, config.boxes, config.zone_means)
    layers = stage("layers", before_after_layers, kd490, config.impact.intervention)
    return Sources(zones, layers, truth, tables)


def _harmonised(data: WaterData, stage: Stages) -> tuple[xr.DataArray, pd.DataFrame]:
    """Each sensor read by itself, lines between them, one record."""
    cubes = {
        sensor: stage(
            f"ingest_{sensor}", read_cube, stage.inputs(source_paths(data, sensor), data.lock), data
        )
        for sensor in data.sensors
    }
    lines = stage("harmonisation", fit_harmonisation, cubes, data.harmonise)
    return stage("merge", merge_sensors, cubes, lines), lines.table
