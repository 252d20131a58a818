"""What `train` can be told: its options, each by name."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

IMAGES, TABLES = "Of images", "Of tables"
"""What the help lists together."""

Data = Annotated[
    Path,
    Argument(
        metavar="DATASET",
        help="Images: a folder of a class each, a MedMNIST .npz, imagesTr and labelsTr, images and labels, HDF5 "
        "files, a table with the columns image and label or mask, DICOM with SEG or RTSTRUCT. Or a table of "
        "numbers, one row a patient or lesion: CSV, TSV, xlsx, Parquet.",
    ),
]
Out = Annotated[Path, Option("--out", "-o", help="Folder for the model.")]
Target = Annotated[str | None, Option(help="Column of the class or value to predict.")]
Time = Annotated[
    str | None, Option(rich_help_panel=TABLES, help="Survival: column of the time to event or end of follow-up.")
]
Event = Annotated[
    str | None,
    Option(rich_help_panel=TABLES, help="Survival: column that is 1 where the event was observed, else 0."),
]
TaskName = Annotated[
    str | None,
    Option(
        help="classify, regress, segment, detect, enhance, generate, anomaly, forecast (images), or survive "
        "(tables); without it, by the labels."
    ),
]
Budget = Annotated[
    str | None,
    Option(rich_help_panel=IMAGES, help="How long it may take in all, as 90s, 20m, 2h. It ends on time."),
]
NetworkName = Annotated[
    str | None, Option(rich_help_panel=IMAGES, help="A network of `isocenter networks`; chosen without.")
]
PlanFile = Annotated[
    Path | None,
    Option(exists=True, dir_okay=False, rich_help_panel=IMAGES, help="A plan (JSON) instead of the one that is made."),
]
Change = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="FIELD=VALUE",
        rich_help_panel=IMAGES,
        help="A field of the plan, as schedule.learning_rate=1e-3; repeatable.",
    ),
]
Degrade = Annotated[
    list[str] | None,
    Option(
        "--degrade",
        metavar="HOW=VALUE",
        rich_help_panel=IMAGES,
        help="enhance: what makes good images poor, which the network learns to undo: noise=0.3 (in deviations of "
        "the image), factor=2 (voxels that become one), blur=1 (voxels); repeatable. Pairs of images need none.",
    ),
]
Normal = Annotated[
    str | None,
    Option(rich_help_panel=IMAGES, help="anomaly: the class that is normal, which alone is learnt from."),
]
Beside = Annotated[
    list[str] | None,
    Option(
        "--with",
        metavar="COLUMN",
        rich_help_panel=IMAGES,
        help="Images in a table: a column of numbers beside the image; repeatable.",
    ),
]
StartFrom = Annotated[
    str | None,
    Option(
        "--from",
        rich_help_panel=IMAGES,
        help="Trained weights to start from: a model, a MONAI bundle, a .safetensors file.",
    ),
]
Freeze = Annotated[
    str,
    Option(rich_help_panel=IMAGES, help="With --from: none, half or all of what was taken over does not learn."),
]
Tries = Annotated[
    list[str] | None,
    Option(
        "--try",
        metavar="FIELD=VALUE,VALUE",
        rich_help_panel=IMAGES,
        help="Settings among which half of the budget chooses, as lr=1e-3,3e-4 or depth=3,4; repeatable.",
    ),
]
Seeds = Annotated[
    int, Option(min=1, max=20, rich_help_panel=IMAGES, help="Trainings from other seeds, which share the budget.")
]
Ensemble = Annotated[
    bool | None,
    Option("--ensemble/--one", rich_help_panel=IMAGES, help="Keep all networks of --seeds or --folds, or the first."),
]
LearningCurve = Annotated[
    bool,
    Option("--learning-curve", rich_help_panel=IMAGES, help="Say whether more patients would help, within the budget."),
]
HoldOut = Annotated[
    int | None,
    Option(
        min=2,
        rich_help_panel=IMAGES,
        help="Where no splits are stated: every so-many-th patient is a test case, never looked at.",
    ),
]
Resplit = Annotated[
    bool,
    Option(
        "--resplit",
        rich_help_panel=IMAGES,
        help="Set the splits aside that the data set states: patients are parted anew (--hold-out, --folds).",
    ),
]
Device = Annotated[str, Option(rich_help_panel=IMAGES, help="auto, cpu, cuda or mps.")]
Processes = Annotated[
    int, Option(min=1, max=64, rich_help_panel=IMAGES, help="Processes that learn together (distributed).")
]
Logs = Annotated[Path | None, Option(rich_help_panel=IMAGES, help="Folder for TensorBoard and CSV logs while it runs.")]
ModelKind = Annotated[
    str,
    Option(
        rich_help_panel=TABLES,
        help="auto, logistic, linear, svm, svm-rbf, tree, forest, boosting, knn, cox.",
    ),
]
Features = Annotated[
    list[str] | None,
    Option(rich_help_panel=TABLES, help="Pattern of feature columns (* ?); all of numbers without."),
]
Drop = Annotated[list[str] | None, Option(rich_help_panel=TABLES, help="Pattern of columns that are no features.")]
Positive = Annotated[
    str | None, Option(rich_help_panel=TABLES, help="The class that is looked for; the last in order without.")
]
Harmonise = Annotated[bool, Option("--harmonise", rich_help_panel=TABLES, help="ComBat over --site, inside the folds.")]
Covariate = Annotated[
    list[str] | None, Option(rich_help_panel=TABLES, help="Feature whose effect harmonisation keeps.")
]
UnseenSite = Annotated[str, Option(rich_help_panel=TABLES, help="At prediction: refuse, or keep as it is.")]
Folds = Annotated[
    int | None,
    Option(min=2, max=50, help="Folds by patient. Tables: 5 by itself; images: cross-validate, and keep all networks."),
]
Select = Annotated[
    int | None, Option(min=0, rich_help_panel=TABLES, help="Features kept; 0: all; chosen in inner folds without.")
]
Selector = Annotated[str, Option(rich_help_panel=TABLES, help="How features are chosen: mrmr, lasso or rfe.")]
Calibrate = Annotated[str, Option(help="auto, platt, temperature, isotonic or none.")]
Coverage = Annotated[float, Option(min=0.5, max=0.999, help="Of prediction sets and intervals.")]
At = Annotated[
    str | None,
    Option(
        help="Operating point: sensitivity=.95, specificity=.9, cost=5 (a miss costs 5 alarms), youden (images: "
        "by itself)."
    ),
]
DropLeaks = Annotated[bool, Option("--drop-leaks", help="Remove the training side of leaks, and record it.")]
AllowLeak = Annotated[list[str] | None, Option(help="Go on with leaks of this kind: patient, image, row, near-image.")]
MaybeSeed = Annotated[int | None, Option(help="Of folds, models and resampling; 0, or the plan's, without.")]
Force = Annotated[bool, Option("--force", help="Replace a model that stands there.")]
