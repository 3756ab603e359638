"""Named public data sets: where they are, what they must hash to, under which licence."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from eo_causal.core.artefacts import sha256_file
from eo_causal.core.sources import user_cache
from eo_causal.errors import ConfigError, DataError, IntegrityError


@dataclass(frozen=True)
class DataSet:
    """One entry of the registry.

    Attributes
    ----------
    name : str
        What configs call it.
    folder : str
        Its folder below ``$EO_CAUSAL_DATA`` and below the cache.
    files : dict
        File name -> SHA-256.
    base_url : str or None
        The files' address without their name; None where only ``$EO_CAUSAL_DATA`` has them.
    licence, citation : str
        Terms, and what to cite.
    sources : dict
        File name -> path below ``base_url``, where it differs from the name.
    """

    name: str
    folder: str
    files: dict[str, str]
    base_url: str | None
    licence: str
    citation: str
    sources: dict[str, str] = field(default_factory=dict)


_RAW = "https://raw.githubusercontent.com"
_MOROWALI = f"{_RAW}/sandyherho/supplMorowaliOcean/efe25b07af631b88586784f576bd647515542f31/"

REGISTRY = {
    entry.name: entry
    for entry in (
        DataSet(
            "morowali",
            "ocean-color/morowali_imip",
            {
                "Impact_Zone_Kd490_Temp_Sal.csv": "9f5a6b242d76bd218a245a76d40fda9f0ab6ab3f9dec9dc9cd980f3d91f12a41",
                "Control_Zone_Kd490_Temp_Sal.csv": "6823abc80892dc89531f900262b4bef525412f5334d1fe23f24f19f87e6e76d3",
                "Entire_Area_Kd490_Temp_Sal.csv": "ea4ddbbb3a78f748c580fac26e9094be612360b32c1e3ce94e74725af13c323a",
                "salinity_temp.nc": "8eba5f0c7f60653a837868785bc410f2806fc23f20a528416bde71e2ff76e2cd",
                "sentinel2LULC_IMIP.nc": "8ba33be3931acbd58c8717f544673fbee8c1efbf4cf6b9d5351038365e08b44b",
            },
            _MOROWALI,
            "MIT; Copernicus Marine; Esri land cover CC BY 4.0",
            "arXiv 2603.07331",
            {
                "Impact_Zone_Kd490_Temp_Sal.csv": "processed_data/Impact_Zone_Kd490_Temp_Sal.csv",
                "Control_Zone_Kd490_Temp_Sal.csv": "processed_data/Control_Zone_Kd490_Temp_Sal.csv",
                "Entire_Area_Kd490_Temp_Sal.csv": "processed_data/Entire_Area_Kd490_Temp_Sal.csv",
                "salinity_temp.nc": "raw_data/salinity_temp.nc",
                "sentinel2LULC_IMIP.nc": "raw_data/sentinel2LULC_IMIP.nc",
            },
        ),
        DataSet(
            "obpg-chl-9km",
            "ocean-color/nasa_obpg",
            {
                "S20080012008031.L3m_MO_CHL_chlor_a_9km.nc": "88cf74b6f7b492cadacd0e00c65d28d538d03cc49a5a113b986c4404530e4ebe"
            },
            f"{_RAW}/ropensci/tidync/66ee83cd/inst/extdata/oceandata/",
            "NASA OBPG, free; carrying repository GPL-3",
            "NASA Ocean Biology Processing Group, SeaWiFS 2018.0",
        ),
        DataSet(
            "obpg-rrs-l3b",
            "ocean-color/nasa_obpg",
            {
                "S2008001.L3b_DAY_RRS.nc": "44e8370c1698b443ce9d6d05372446d09a9b977bb7bd3d19860fcf6440ee9df0"
            },
            f"{_RAW}/ropensci/tidync/66ee83cd/inst/extdata/oceandata/",
            "NASA OBPG, free; carrying repository GPL-3",
            "NASA Ocean Biology Processing Group, SeaWiFS 2018.0",
        ),
        DataSet(
            "oc-cci-iop",
            "ocean-color/esa_oc_cci",
            {
                "ESACCI-OC-L3S-IOP-MERGED-1M_MONTHLY_4km_GEO_PML_OCx_QAA-200505-fv4.2.nc": (
                    "e0f6115a7632da7ab889a84158305e1659f7477c657e2fd4d294b77620025461"
                )
            },
            f"{_RAW}/CCI-Tools/cate/c7b914f9/tests/ds/resources/datasources/local2/",
            "ESA CCI, free and open; carrying repository MIT",
            "ESA Ocean Colour CCI v4.2",
        ),
        DataSet(
            "natural-earth",
            "boundaries",
            {
                "ne_10m_coastline_sulawesi_banda.geojson": "15ed522f883dbd26914bebec1eb88f7d275cd45e8cee355407c9b57fb706f93c",
                "ne_10m_land_sulawesi_banda.geojson": "35bfccf16276d828bbc6a9f56a95a93cf29f7ac856d1f2fb8fb329d74e7ca610",
            },
            None,
            "public domain",
            "Natural Earth, 1:10m",
        ),
        DataSet(
            "causalimpact",
            "impact/causalimpact",
            {
                "comparison_data.csv": "94cffe8a24a05a954db09cc939548a747632e3194c8f19385cf5dd8a22f84190",
                "arma_data.csv": "192f91e3a014ee34d7ec952f2a5b560d670dbb1f9c758bf3282cddb5e992bb54",
                "sim_local_level_T300.csv": "bc7ce271793ffc58180da3fcfaae1c68bf40c63bf6e9fe43a594fe7efe280c43",
            },
            None,
            "Apache-2.0",
            "tfcausalimpact test fixtures; simulated series",
        ),
    )
}


def list_datasets() -> list[DataSet]:
    """All named data sets."""
    return list(REGISTRY.values())


def find_dataset(name: str) -> DataSet:
    """The registry entry of a name.

    Raises
    ------
    ConfigError
        Unknown name; lists the known ones.
    """
    if name not in REGISTRY:
        known = ", ".join(REGISTRY)
        raise ConfigError(f"data set {name!r} is not known; known: {known}.", name=name)
    return REGISTRY[name]


def dataset_path(name: str, file: str | None = None) -> Path:
    """Folder of a data set that is present, or the path of one of its files.

    Looks in ``$EO_CAUSAL_DATA``, then in the user cache.

    Raises
    ------
    DataError
        Not present; says how to get it.
    """
    entry = find_dataset(name)
    wanted = [file] if file else list(entry.files)
    for root in _roots():
        folder = root / entry.folder
        if all((folder / item).is_file() for item in wanted):
            return folder / file if file else folder
    missing = f"{name}/{file}" if file else name
    how = (
        f"Run `eo-causal data fetch {name}`, or set EO_CAUSAL_DATA to a folder that holds it."
        if entry.base_url
        else "Set EO_CAUSAL_DATA to a folder that holds it; it cannot be downloaded."
    )
    raise DataError(f"data set {missing} is not on this computer. {how}", name=name, file=file)


def fetch(name: str) -> Path:
    """Download what is missing of a data set into the cache, hashes checked; returns its folder.

    Raises
    ------
    DataError
        The data set has no public address, or the download failed.
    IntegrityError
        A downloaded file has another hash.
    """
    import pooch
    import requests

    entry = find_dataset(name)
    try:
        return dataset_path(name)
    except DataError:
        if entry.base_url is None:
            raise
    folder = user_cache() / entry.folder
    for file, digest in entry.files.items():
        url = entry.base_url + entry.sources.get(file, file)
        try:
            pooch.retrieve(url, known_hash=f"sha256:{digest}", fname=file, path=folder)
        except requests.RequestException as error:
            raise DataError(
                f"{name}/{file}: the download failed ({type(error).__name__}). Try again, or set"
                " EO_CAUSAL_DATA.", name=name, file=file,
            ) from error  # fmt: skip
        except ValueError as error:
            raise IntegrityError(
                f"{name}/{file}: the download has another sha256 than expected.", name=name
            ) from error
    return folder


def verify_dataset(name: str) -> int:
    """Check every file's hash; returns their number.

    Raises
    ------
    IntegrityError
        A file differs.
    """
    entry = find_dataset(name)
    folder = dataset_path(name)
    for file, digest in entry.files.items():
        if sha256_file(folder / file) != digest:
            raise IntegrityError(
                f"{folder / file}: its sha256 is not the registered one.", file=file
            )
    return len(entry.files)


def _roots() -> list[Path]:
    named = os.environ.get("EO_CAUSAL_DATA")
    return [*([Path(named)] if named else []), user_cache()]
