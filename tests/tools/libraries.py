"""Python's DICOM libraries. Imported where they are used: it takes seconds, in each process that collects tests."""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from typing import Any

from tests.tools.idiom import Idiom, Place, Work, tree
from tests.tools.python import each

_ELEMENTS = "all elements"
_VOLUME = "the volume, and where it is"
_FRAMES = "the frames"
_REGIONS = "regions"


def _pydicom(**options: Any) -> Work:
    """Each file's elements; those that are left for later too."""

    def read(path: Path) -> list[tuple[str, Any]]:
        import pydicom

        return [(str(element.tag), element.value) for element in pydicom.dcmread(path, **options)]

    return each(read)


def _pixels(path: Path) -> list[bytes]:
    from pydicom.pixels.utils import iter_pixels

    return [frame.tobytes() for frame in iter_pixels(path)]


def _fileset(place: Place) -> list[str]:
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in place.files():
        files.add(path)
    files.write(place.target)
    del files
    gc.collect()  # it leaves a directory for this to remove, and would warn of it later
    return sorted(digest for name, digest in tree(place.target).items() if name != "DICOMDIR")


def _simpleitk_series(place: Place) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(place.source)))
    image = reader.Execute()
    return image.GetSpacing(), image.GetOrigin(), image.GetSize(), sitk.GetArrayFromImage(image).tobytes()


def _simpleitk_part(path: Path) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    reader.SetExtractIndex((10, 10, 0))
    reader.SetExtractSize((20, 20, 1))
    tags = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return tags, sitk.GetArrayFromImage(reader.Execute()).tobytes()


def _itk(place: Place) -> Any:
    import itk

    names = itk.GDCMSeriesFileNames.New(Directory=str(place.source))
    (series,) = names.GetSeriesUIDs()
    image = itk.imread(list(names.GetFileNames(series)))
    return tuple(image.GetSpacing()), tuple(image.GetOrigin()), itk.array_from_image(image).tobytes()


def _nibabel(path: Path) -> Any:
    from nibabel.nicom import dicomwrappers

    wrapper = dicomwrappers.wrapper_from_file(str(path))
    return wrapper.affine.tolist(), wrapper.get_data().tobytes()


def _segmentation(path: Path, *, lazy: bool) -> Any:
    import highdicom

    read = highdicom.seg.segread(path, lazy_frame_retrieval=lazy)
    volume = read.get_volume()
    return read.segment_numbers, volume.affine.tolist(), volume.array.tobytes()


def _highdicom_volume(place: Place) -> Any:
    import highdicom
    import pydicom

    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in place.files()])
    return volume.affine.tolist(), volume.array.tobytes()


def _openslide(path: Path) -> Any:
    import openslide

    with openslide.OpenSlide(path) as slide:
        regions = [slide.read_region((300, 400), level, (500, 400)).tobytes() for level in range(slide.level_count)]
        return slide.level_dimensions, dict(slide.properties), regions


def _wsidicom(place: Place) -> Any:
    import wsidicom

    with wsidicom.WsiDicom.open(place.source) as slide:
        return slide.read_region((300, 400), 0, (700, 600)).tobytes(), slide.read_thumbnail((200, 200)).tobytes()


LIBRARIES = (
    Idiom("pydicom.dcmread", _ELEMENTS, _pydicom()),
    Idiom("dcmread, stop_before_pixels", _ELEMENTS, _pydicom(stop_before_pixels=True)),
    Idiom("dcmread, defer_size", _ELEMENTS, _pydicom(defer_size=1000)),
    Idiom("dcmread, specific_tags", _ELEMENTS, _pydicom(specific_tags=["PatientID", "Rows"], force=True)),
    Idiom("pydicom iter_pixels", _FRAMES, each(_pixels)),
    Idiom("pydicom FileSet", "the copies", _fileset),
    Idiom("SimpleITK, a series", _VOLUME, _simpleitk_series),
    Idiom("SimpleITK, a part of a file", "tags and pixels", each(_simpleitk_part)),
    Idiom("itk.imread", _VOLUME, _itk),
    Idiom("nibabel.nicom", "slices, and where they are", each(_nibabel)),
    Idiom("highdicom segread", _VOLUME, each(functools.partial(_segmentation, lazy=False)), "SEG"),
    Idiom("highdicom segread, lazy", _VOLUME, each(functools.partial(_segmentation, lazy=True)), "SEG"),
    Idiom("highdicom volume", _VOLUME, _highdicom_volume),
    Idiom("openslide", _REGIONS, each(_openslide), "slide"),
    Idiom("wsidicom", _REGIONS, _wsidicom, "slide"),
)
