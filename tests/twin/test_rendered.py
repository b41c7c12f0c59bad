"""The twin's pictures."""

from __future__ import annotations

import io

import httpx
from PIL import Image

from tests.twin.asking import Instance, get
from tests.twin.client import Twin
from tests.twin.rendered import JPEG, PNG


def test_each_instance_and_frame_has_a_picture_of_its_own(
    client: httpx.Client, twin: Twin, rle: Instance, ct: Instance
) -> None:
    seen = {get(client, one + "/rendered", kind).content for one in (ct[0], rle[0]) for kind in (PNG, JPEG)}
    seen |= {get(client, f"{rle[0]}/frames/{frame}/rendered", PNG).content for frame in (2, 3, 4)}
    assert len(seen) == 7
    for body in seen:
        Image.open(io.BytesIO(body)).load()
    assert get(client, rle[0] + "/frames/5/rendered", PNG).status_code == 404
    assert get(client, rle[0] + "/rendered", "image/gif").status_code == 406
    twin.set(rendered_status=501)
    assert get(client, ct[0] + "/rendered", PNG).status_code == 501
