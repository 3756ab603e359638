"""Did something on the coast change the clarity of the water? (arXiv 2603.07331)

Ocean-colour rasters or zone tables -> zone series -> breakpoints -> Bayesian structural time series
-> placebos -> euphotic depth -> report.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field, model_validator

from eo_causal.core.boxes import box_distance_km
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
from eo_causal.run.config import CausalConfig, DataSettings, study_yaml
from eo_causal.run.design import Design, DesignText
from eo_causal.run.design_blocks import Quantity
from eo_causal.run.manifest import provenance
from eo_causal.run.stage import Stages
from eo_causal.simulate.coast import ZONES, CoastSettings, write_coast

UNITS = "m-1"
"""Units of attenuation once it is read."""


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


class WaterDesign(DesignText):
    """The design of an impact on one zone's series."""

    strategy: Literal["bsts"] = "bsts"
    quantity: Quantity = "cumulative_impact"
    population: str = Field(default="the impact zone", min_length=1)
    exclusion_buffer_km: float = Field(
        default=0, ge=0, description="controls nearer to the impact zone than this are refused"
    )


class Config(CausalConfig):
    """Settings of a water-clarity study."""

    design: WaterDesign = WaterDesign()

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

    def causal_design(self, name: str) -> Design:
        """The design these settings stand for."""
        roles, start, checks = self.roles, self.impact.intervention, self.checks
        first, last = self.data.period or (None, None)
        placebos = {"in_time": checks.placebo_in_time, "in_space": checks.placebo_in_space}
        varied = {
            "leave_one_out": checks.leave_one_out,
            "prior": checks.prior_sensitivity,
            "scale": checks.scale_sensitivity,
        }
        series = [
            f"{column} {zone}" for zone in roles.controls for column in self.impact.covariates
        ]
        derived = {
            "estimand": {"horizon": f"{start} to {last or 'the last month'}"},
            "units": {"geometry": "zone", "id": "zone", "crs": "EPSG:4326"},
            "time": {"start": first, "end": last, "freq": "month"},
            "treatment": {
                "name": f"change at {roles.impact}",
                "start_date": start,
                "assignment": "observed",
            },
            "outcome": {"name": f"kd490 {roles.impact}", "source": "raster", "units": UNITS},
            "confounders": {"tabular": series},
            "inference": {"alpha": round(1 - self.impact.interval_level, 12)},
            "sensitivity": [key for key, wanted in varied.items() if wanted],
            "placebos": [key for key, wanted in placebos.items() if wanted],
            "design_specific": self._series_design(),
        }
        return self.design.complete(name, self.question, derived)

    def _series_design(self) -> dict[str, Any]:
        roles, start, boxes = self.roles, self.impact.intervention, self.boxes
        first, last = self.data.period or (None, None)
        distance = {
            zone: round(box_distance_km(boxes[roles.impact], boxes[zone]), 1)
            for zone in roles.controls
            if {zone, roles.impact} <= boxes.keys()
        }
        return {
            "intervention_date": start,
            # a period that does not hold the date is refused by the stages that read it
            "pre": (
                first if first and first < start else None,
                str(np.datetime64(start, "M") - np.timedelta64(1, "M")),
            ),
            "post": (start, last if last and last >= start else None),
            "controls": [
                {"name": zone, "distance_km": distance.get(zone)} for zone in roles.controls
            ],
            "exclusion_buffer_km": self.design.exclusion_buffer_km,
            "placebo_units": [
                zone for zone in boxes if zone not in (roles.impact, *roles.controls)
            ],
        }


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
        units = display_units(show.display_scale, UNITS)
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
        truth=data.truth, data_tables=data.tables, sensor_changes=changes,
        design=stage.design, registration=stage.registration, ledger=stage.ledger(),
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
