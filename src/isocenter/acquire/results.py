"""Results that other programs wrote beside the images: DICOM SEG and RTSTRUCT, as label maps on the image's grid."""

from functools import partial

from isocenter.data.case import Result
from isocenter.formats import dicom_seg_read, rtstruct
from isocenter.formats.dicom_header import Header


def result_of(header: Header) -> Result:
    """A SEG or RTSTRUCT file; its frames and contours are brought onto a grid when they are asked for.

    Raises: UnreadableFile or UnsupportedFormat.
    """
    common = {"uid": header.text("SeriesInstanceUID"), "instance_uid": header.text("SOPInstanceUID")}
    description = header.text("SeriesDescription")
    if header.text("Modality") == "RTSTRUCT" or header.text("SOPClassUID").endswith(".481.3"):
        structures = rtstruct.read(header)
        rtstruct.require(structures)
        names = tuple(structures.names[n] for n in structures.contours)
        read = partial(rtstruct.label_maps, structures)
        return Result(**common, kind="RTSTRUCT", description=description, names=names, file=header.file,
                      series_uid=structures.series_uid, read=read)  # fmt: skip
    seg = dicom_seg_read.read(header)
    return Result(**common, kind="SEG", description=description, names=tuple(seg.names.values()), file=header.file,
                  series_uid=seg.series_uid, read=partial(dicom_seg_read.label_maps, seg))  # fmt: skip
