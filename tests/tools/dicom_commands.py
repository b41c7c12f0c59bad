"""The DICOM tools that Debian packages: dcmtk, GDCM, dcm2niix, vtk-dicom and plastimatch."""

from __future__ import annotations

from tests.tools.commands import PRINTED, SUMS, one_by_one
from tests.tools.idiom import Idiom, Outcome, shell

_CONVERTED = "what it makes"
_VOLUME = "the volume"

DICOM = (
    Idiom("dcmdump", PRINTED, shell("dcmdump +L *")),
    Idiom("dcmftest", PRINTED, shell("dcmftest *")),
    Idiom("dcmconv", _CONVERTED, shell(one_by_one('dcmconv +ti "$f" "$to/$f"'))),
    Idiom("dcmcrle", _CONVERTED, shell(one_by_one('dcmcrle "$f" "$to/$f"'))),
    Idiom("dcm2pnm", _CONVERTED, shell(one_by_one('dcm2pnm "$f" "$to/$f"'))),
    Idiom("dcm2json", SUMS, shell(one_by_one('dcm2json "$f" | md5sum'))),
    Idiom("dcm2xml", SUMS, shell(one_by_one('dcm2xml "$f" | md5sum'))),
    Idiom("dcmodify", "—", shell("dcmodify -nb -m PatientID=x *"), provisional=Outcome.REFUSED, exact=Outcome.REFUSED),
    Idiom("gdcminfo", PRINTED, shell(one_by_one('gdcminfo "$f"'))),
    Idiom("gdcmdump", PRINTED, shell(one_by_one('gdcmdump "$f"'))),
    Idiom("gdcmscanner", PRINTED, shell("gdcmscanner -d . -t 0020,000d -t 0020,0013 -p", in_order=False)),
    Idiom("gdcmconv", _CONVERTED, shell(one_by_one('gdcmconv --raw "$f" "$to/$f"'))),
    Idiom("gdcmimg", _CONVERTED, shell(one_by_one('gdcmimg -i "$f" -o "$to/$f.pgm"'))),
    Idiom("gdcmraw", _CONVERTED, shell(one_by_one('gdcmraw -i "$f" -o "$to/$f"'))),
    Idiom("dcm2niix -o", _VOLUME, shell('dcm2niix -z n -f volume -o "$to" . >/dev/null')),
    Idiom(
        "dcm2niix, through links",
        _VOLUME,
        shell('mkdir "$to/in"; ln -s "$PWD"/* "$to/in"; dcm2niix -z n -f volume -o "$to" "$to/in" >/dev/null'),
    ),
    Idiom("dcm2niix", "—", shell("dcm2niix -z n ."), provisional=Outcome.REFUSED, exact=Outcome.REFUSED),
    Idiom("dicomdump", PRINTED, shell("dicomdump *")),
    Idiom("dicomtonifti", _VOLUME, shell('dicomtonifti -o "$to/volume.nii" .')),
    Idiom("plastimatch convert", _VOLUME, shell('plastimatch convert --input . --output-img "$to/v.mha" >/dev/null')),
)
