"""What a file holds beside the picture that is read is named, and not claimed by the result."""

from __future__ import annotations

import struct
from functools import partial
from io import BytesIO

import numpy as np
import PIL
import pytest
import torch
from image_files import SRGB, array, needs, noise, save, tensor
from perceptual_style.core.images.left_out import left_out
from perceptual_style.core.images.reading import count_frames, open_file, read_image
from perceptual_style.core.images.writing import save_images, writable_name
from PIL import Image

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="t" %s><Container:Directory><rdf:Seq/>'
    b"</Container:Directory></rdf:Description></x:xmpmeta>"
)
OTHERS = "more pictures in the file (preview, second view or gain map) left out"
ONE_OTHER = "1 more picture in the file (preview, second view or gain map) left out"
UPPER_BITS = "only the upper 8 bits of each channel are read"


def write_mpo(path, *sizes, **options):
    first, *others = (Image.fromarray(noise(*size, 3)) for size in sizes)
    first.save(path, "MPO", save_all=True, append_images=others, **options)
    return path


def test_first_picture_of_an_mpo_file_is_the_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "a camera"
    path = write_mpo(tmp_path / "a.jpg", (16, 24), (16, 24), (4, 6), exif=exif, icc_profile=SRGB, dpi=(300, 300))
    try:
        opened = Image.open(path)
    except PIL.UnidentifiedImageError:
        pytest.skip("this Pillow cannot open the MPO that it writes with Exif")
    with opened as image:
        if image.format != "MPO":
            pytest.skip("this Pillow does not recognize what it writes with Exif as MPO")
        assert image.n_frames == 3
        first = np.rot90(np.asarray(image), -1).copy()
    found = read_image(path)
    assert torch.equal(found.pixels, tensor(first))
    assert found.notes == (f"2 {OTHERS}",)
    with open_file(path) as file:
        assert count_frames(file, path) == 1
    assert save_images(tmp_path / "b.jpg", [found]) is None
    again = read_image(tmp_path / "b.jpg")
    assert again.notes == () and again.pixels.shape == (1, 3, 24, 16)
    assert (again.icc_profile, again.metadata.dpi) == (SRGB, (300, 300)) and b"a camera" in again.exif
    assert writable_name("stereo.MPO") == "stereo.jpg"


def test_mpo_file_is_read_without_its_other_pictures(tmp_path):
    content = write_mpo(tmp_path / "a.jpg", (16, 24), (16, 24)).read_bytes()
    expected, end = read_image(tmp_path / "a.jpg").pixels, content.index(b"\xff\xd9") + 2
    for rest in (b"", content[end : end + 100]):
        (tmp_path / "b.jpg").write_bytes(content[:end] + rest)
        found = read_image(tmp_path / "b.jpg")
        assert torch.equal(found.pixels, expected) and found.notes == (ONE_OTHER,)


@pytest.mark.parametrize(
    ("attributes", "write", "note"),
    [
        (b'hdrgm:Version="1.0"', write_mpo, ONE_OTHER),
        (b'hdrgm:Version="1.0"', None, "the HDR gain map in the file left out"),
        (b'GCamera:MotionPhoto="1"', None, "the video in the file (motion photo) left out"),
        (b'GCamera:MicroVideo="1" GCamera:MicroVideoOffset="9"', None, "the video in the file (motion photo) left out"),
    ],
)
@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 11, reason="Pillow below 11 writes no XMP to JPEG")
def test_gain_maps_and_videos_are_named_and_not_claimed(attributes, write, note, tmp_path):
    path = tmp_path / "a.jpg"
    if write:
        write(path, (16, 24), (8, 12), xmp=XMP % attributes)
    else:
        save(path, noise(16, 24, 3), xmp=XMP % attributes)
    found = read_image(path)
    assert found.notes == (note,)
    assert b'dc:title="t"' in found.metadata.xmp
    assert not any(word in found.metadata.xmp for word in (b"hdrgm:V", b"GCamera", b"Container"))
    save_images(tmp_path / "b.jpg", [found])
    assert read_image(tmp_path / "b.jpg").notes == ()


def test_bits_that_are_not_read_are_named(tmp_path):
    data = noise(3, 4, 3, top=65536, dtype=np.uint16)
    for name, head, values in (
        ("a.ppm", b"P6\n# a comment\n4 3\n65535\n", data.astype(">u2").tobytes()),
        ("b.ppm", b"P6 4 3 1023 ", (data >> 6).astype(">u2").tobytes()),
    ):
        (tmp_path / name).write_bytes(head + values)
        found = read_image(tmp_path / name)
        assert np.allclose(array(found.pixels), data / 65535, atol=1 / 255) and found.notes == (UPPER_BITS,)
    (tmp_path / "c.ppm").write_bytes(b"P6 4 3 255 " + bytes(36))
    assert read_image(tmp_path / "c.ppm").notes == ()


@pytest.mark.parametrize(
    ("suffix", "mark", "offset", "bits"),
    [(".avif", b"pixi", 9, bytes((10, 10, 10))), (".jp2", b"\xff\x51", 40, bytes((11,)))],
)
def test_bits_of_avif_and_jpeg_2000_are_looked_up(suffix, mark, offset, bits, tmp_path):
    needs(suffix)
    content = save(tmp_path / f"a{suffix}", noise(32, 32, 3)).read_bytes()
    assert read_image(tmp_path / f"a{suffix}").notes == ()
    at = content.index(mark) + offset
    with Image.open(tmp_path / f"a{suffix}") as image:  # a decoder would reject a change of this number alone
        changed = content[:at] + bits + content[at + len(bits) :]
        assert left_out(image, BytesIO(changed)) == (UPPER_BITS,)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    for name, content, notes in (
        ("sound", exif.tobytes(), ()),
        ("empty", Image.Exif().tobytes(), ()),
        ("damaged", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x7f" * 30, ("its EXIF is damaged and left out",)),
        ("nonsense", b"Exif\0\0 nothing of the kind", ("its EXIF is damaged and left out",)),
    ):
        assert read_image(save(tmp_path / f"{name}.jpg", noise(8, 8, 3), exif=content)).notes == notes


class TestHeic:
    """Photos of phones, where pillow-heif is installed."""

    @pytest.fixture
    def write(self, tmp_path):
        heif = pytest.importorskip("pillow_heif")
        return partial(self.written, heif, tmp_path / "a.heic")

    @staticmethod
    def written(heif, path, image, *others, exif=None, info=(), **options):
        file = heif.from_pillow(image)
        for other in others:
            file.add_from_pillow(other)
        file.info.update(info)
        file.save(path, quality=-1, **({"exif": exif} if exif else {}), **options)
        return path

    def test_colors_are_read(self, write):
        data = np.kron(noise(4, 6, 3), np.ones((16, 16, 1), np.uint8))
        found = read_image(write(Image.fromarray(data), chroma=444))
        assert np.allclose(array(found.pixels), data / 255, atol=4 / 255)
        assert (found.alpha, found.bits, found.notes, found.metadata.marks) == (None, 8, (), {})

    def test_orientation_profile_and_exif(self, write, tmp_path):
        exif = Image.Exif()
        exif[0x0112], exif[0x0110] = 6, "a phone"
        data = np.kron(noise(2, 3, 3), np.ones((32, 32, 1), np.uint8))
        found = read_image(write(Image.fromarray(data), exif=exif.tobytes(), info={"icc_profile": SRGB}))
        assert np.allclose(array(found.pixels), np.rot90(data, -1) / 255, atol=0.2)
        assert found.icc_profile == SRGB and b"a phone" in found.exif
        save_images(tmp_path / "b.jpg", [found])
        assert read_image(tmp_path / "b.jpg").pixels.shape == (1, 3, 96, 64)

    def test_alpha_is_read(self, write):
        image = Image.fromarray(noise(32, 48, 3))
        alpha = Image.new("L", image.size, 255)
        alpha.paste(0, (0, 0, 16, 32))
        image.putalpha(alpha)
        assert read_image(write(image)).alpha.mean() == pytest.approx(2 / 3, abs=0.01)

    def test_primary_picture_is_the_photo(self, write):
        pictures = [Image.new("RGB", (64, 48), color) for color in ((200, 0, 0), (0, 200, 0))]
        found = read_image(write(*pictures, primary_index=1))
        assert found.pixels[0, :, 0, 0].argmax() == 1 and found.notes == (ONE_OTHER,)

    def test_hdr_and_ten_bits_are_named(self, write, tmp_path):
        heif = pytest.importorskip("pillow_heif")
        image = Image.fromarray(noise(32, 48, 3))
        path = write(image, color_primaries=9, transfer_characteristics=18, matrix_coefficients=9)
        assert read_image(path).metadata.marks == {b"cICP": bytes((9, 18, 0, 1))}
        deep = noise(32, 48, 3, top=65536, dtype=np.uint16)
        heif.encode("RGB;16", (48, 32), deep.tobytes(), tmp_path / "b.heic", quality=-1)
        assert read_image(tmp_path / "b.heic").notes == (UPPER_BITS,)


def test_index_of_pictures_that_makes_no_sense_is_no_obstacle(tmp_path):
    content = bytearray(write_mpo(tmp_path / "a.jpg", (16, 24), (16, 24)).read_bytes())
    expected, start = read_image(tmp_path / "a.jpg").pixels, content.index(b"MPF\0")
    content[start + 12 : start + 30] = struct.pack(">18B", *[255] * 18)
    (tmp_path / "b.jpg").write_bytes(content)
    with pytest.warns(UserWarning, match="malformed"):
        assert torch.equal(read_image(tmp_path / "b.jpg").pixels, expected)
