"""Commands that measure given regions."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from isocenter.cli import show

Names = Annotated[
    str,
    Option(help="Names in the output: isocenter (one row a feature), pyradiomics (one column)."),
]


def features(
    image: Annotated[
        str, Argument(help="A DICOM folder or file, an image file; or a table with columns image and mask.")
    ],
    mask: Annotated[str | None, Argument(help="Label map: NIfTI, NRRD, PNG, DICOM SEG, RTSTRUCT.")] = None,
    out: Annotated[Path, Option("--out", "-o", help="The CSV.")] = Path("features.csv"),
    label: Annotated[str | None, Option(help="Value or name of the one region; all without it.")] = None,
    settings: Annotated[
        Path | None, Option(help="YAML: settings of the step radiomics, or a pyradiomics parameter file.")
    ] = None,
    names: Names = "isocenter",
    wide: Annotated[bool, Option("--wide", help="One row a case, one column a feature: what train takes.")] = False,
    resample_mask: Annotated[
        bool, Option("--resample-mask", help="Bring a mask on another grid onto the image's, by nearest neighbour.")
    ] = False,
    series: Annotated[str | None, Option(help="UID of the image's series, where there are several.")] = None,
    maps: Annotated[
        Path | None, Option(help="Also write maps of features about each voxel, as NIfTI, into this folder.")
    ] = None,
    radius: Annotated[float, Option(min=0.1, max=50, help="With --maps: radius of the neighbourhood in mm.")] = 3.0,
) -> None:
    """Radiomic features of the regions that MASK draws on IMAGE, by the IBSI standard: one row a feature.

    For example: isocenter features study/ tumour.nii.gz -o features.csv

    A feature that has no answer says why in the column `missing`.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.extract import write_features

        with show.progress() as tell:
            found = write_features(
                image, mask, out, label=label, settings=settings, names=names, wide=wide, resample_mask=resample_mask,
                series=series, maps=maps, radius_mm=radius, on_progress=tell,
            )  # fmt: skip
        show.extracted(found, out)


def ibsi(
    ct_phantom: Annotated[
        Path | None,
        Argument(help="Folder of the CT phantom (`image` and `mask` inside); the digital without."),
    ] = None,
    json: Annotated[bool, Option("--json", help="Print every value as JSON, nothing else on standard output.")] = False,
    reference: Annotated[
        Path | None, Option(help="Folder of the initiative's own tables to judge by (ibsi_1_*.csv).")
    ] = None,
) -> None:
    """Compute the phantoms of the Image Biomarker Standardisation Initiative and compare with its reference values.

    Exit code 1 if any value does not hold.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.conformance import ibsi as compare

        found = compare(ct_phantom, reference=reference)
        show.conformance(found, as_json=json)


def robustness(
    table: Annotated[Path, Argument(help="Columns image and mask; mask2 for a second reader.")],
    out: Annotated[Path, Option("--out", "-o", help="The CSV.")] = Path("robustness.csv"),
    settings: Annotated[Path | None, Option(help="YAML: settings of the step radiomics.")] = None,
    repetitions: Annotated[int, Option(min=2, max=200, help="Perturbed copies of each case.")] = 8,
    least: Annotated[float, Option(min=0, max=1, help="The interval's lower end must reach it.")] = 0.75,
    seed: Annotated[int, Option(help="Of the perturbations.")] = 0,
) -> None:
    """Say which features agree with themselves: under small changes of image and mask, or between two readers."""
    with show.failing_cleanly():
        from isocenter.pipeline.robustness import robustness as judge

        with show.progress() as tell:
            found = judge(
                table, out, settings=settings, repetitions=repetitions, least_icc=least, seed=seed, on_progress=tell
            )
        kept = sum(row.kept for row in found)
        typer.echo(f"{out}: {kept} of {len(found)} features reach an ICC of {least:g} with their interval's lower end")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(features)
    app.command()(ibsi)
    app.command()(robustness)
