"""Image files as pixels."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data.images import decoding
from onnx_oto.data.images.decoding import check, decode, look, scaled_down
from onnx_oto.data.images.framing import Box, frame
from onnx_oto.errors import DataError, RuntimeMissingError, StorageError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)
OPACITY = np.concatenate([COLOUR, RNG.integers(0, 256, (6, 9, 1), np.uint8)], axis=2)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def smooth(height: int, width: int) -> Image.Image:
    """Return a picture that JPEG keeps well."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return Image.fromarray((np.stack([x, y, 1 - x], 2) * 255).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif", "PNG"])
def test_formats_that_lose_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "gif":
        saved(path, Image.fromarray(GREY))
        np.testing.assert_array_equal(decode(path, 1)[..., 0], GREY)
        return
    saved(path, Image.fromarray(COLOUR), **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(decode(path, 3), COLOUR)
    assert look(path) == (6, 9, 3)
    assert check(path) is None


def test_channels_are_those_that_are_asked_for(tmp_path: Path) -> None:
    colour, grey, both = (
        saved(tmp_path / f"{name}.png", Image.fromarray(array))
        for name, array in (("c", COLOUR), ("g", GREY), ("o", OPACITY))
    )
    np.testing.assert_array_equal(decode(grey, 3), np.repeat(GREY[..., None], 3, 2))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(colour, 1)[..., 0] - luma).max() <= 1
    np.testing.assert_array_equal(decode(both, 4), OPACITY)
    np.testing.assert_array_equal(decode(both, 3), COLOUR)  # opacity is dropped
    np.testing.assert_array_equal(decode(colour, 4)[..., 3], 255)
    assert [look(path).channels for path in (colour, grey, both)] == [3, 1, 4]


def test_palettes_one_bit_and_four_inks(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(256)
    np.testing.assert_array_equal(
        decode(saved(tmp_path / "p.png", palette), 3), np.asarray(palette.convert("RGB"))
    )
    clear = saved(tmp_path / "t.png", palette, transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode(clear, 3), np.asarray(palette.convert("RGB")))
    assert decode(clear, 4)[..., 3].max() > 0
    bits = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(
        decode(saved(tmp_path / "b.png", bits), 1)[..., 0], np.where(GREY > 127, 255, 0)
    )
    inks = smooth(32, 48).convert("CMYK")
    found = decode(saved(tmp_path / "c.jpg", inks, quality=100), 3)
    assert np.abs(found.astype(int) - np.asarray(smooth(32, 48))).max() <= 8


def test_16_bits_are_rounded_to_8(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 255, 256, 257], [385, 386, 32768, 65000, 65534, 65535]], np.uint16)
    for suffix in ("png", "tiff"):
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(wide))
        np.testing.assert_array_equal(decode(path, 1)[..., 0], np.round(wide / 257).astype(np.uint8))
        assert decode(path, 3).shape == (2, 6, 3)


@pytest.mark.parametrize("array", [np.ones((4, 4), np.float32), np.full((4, 4), 70000, np.int32)])
def test_numbers_that_are_no_levels_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(array))
    with pytest.raises(DataError, match=r"a\.tiff' cannot be decoded \(it holds .*images have 8 or 16"):
        decode(path, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cameras_that_were_turned(tmp_path: Path, orientation: int) -> None:
    """What is stored turned and mirrored is seen upright, at full size and resized."""
    upright = np.asarray(smooth(40, 60))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    for suffix in ("jpg", "png"):
        path = saved(tmp_path / f"a.{suffix}", picture, exif=exif, quality=95)
        assert np.abs(decode(path, 3).astype(int) - upright).max() < 12
        small = decode(path, 3, frame((20, 20), (20,)))
        plain = decode(saved(tmp_path / "plain.png", Image.fromarray(upright)), 3, frame((20, 20), (20,)))
        assert np.abs(small.astype(int) - plain).max() < 12
    assert look(tmp_path / "a.jpg")[:2] == (40, 60)


def test_large_jpeg_files_are_decoded_at_a_part_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.jpg", smooth(1200, 1600), quality=95)
    cut = frame((64, 64))
    quick = decode(path, 3, cut)
    monkeypatch.setattr(decoding, "_draft", lambda *args: None)
    whole = decode(path, 3, cut)
    assert np.abs(quick.astype(int) - whole).max() <= 3
    assert (quick != whole).any()  # it was another way


def png_with_bad_sum(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    at = data.index(b"IDAT")
    data[at + 8] ^= 0xFF
    return bytes(data)


def bomb() -> bytes:
    """Return a PNG file that claims to be 60000 by 60000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def damaged() -> dict[str, tuple[bytes, str]]:
    stream = io.BytesIO()
    smooth(64, 64).save(stream, "JPEG")
    jpeg = stream.getvalue()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    return {
        "empty.jpg": (b"", r"cannot be decoded \(it is no image\)"),
        "text.jpg": (b"hello", r"cannot be decoded \(it is no image\)"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        "head.jpg": (jpeg[:30], "cannot be decoded"),
        "sum.png": (png_with_bad_sum(COLOUR), "cannot be decoded"),
        "bomb.png": (bomb(), "claims to have more than"),
        "program.jpg": (postscript, r"cannot be decoded \(it is no image\)"),
    }


@pytest.mark.parametrize("name", list(damaged()))
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    data, message = damaged()[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name}' ({message}).*--skip-bad-files"):
        decode(tmp_path / name, 3, frame((8, 8)))
    fault = check(tmp_path / name)
    assert fault is not None
    assert name in fault


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read '.*none\.jpg': No such file"):
        decode(tmp_path / "none.jpg", 3)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        look(tmp_path / "folder.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(StorageError, match="not a regular file"):
            look(tmp_path / "pipe.jpg")


def test_threads_decode_what_one_alone_decodes(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{i}.jpg", smooth(50 + i, 70)) for i in range(12)]
    cut = frame((32, 32))
    alone = [decode(path, 3, cut) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(lambda path: decode(path, 3, cut), paths), strict=True):
            np.testing.assert_array_equal(a, b)


def test_parts_scaled_down_fit_together() -> None:
    pixels = RNG.integers(0, 256, (48, 60, 3), np.uint8)
    whole = np.asarray(Image.fromarray(pixels).resize((20, 16), Image.Resampling.BICUBIC))
    part = scaled_down(pixels, (8, 10), Box(9, 12, 39, 36))
    np.testing.assert_array_equal(part, whole[4:12, 3:13])
    assert scaled_down(pixels[..., :1], (16, 20), Box(0, 0, 60, 48)).shape == (16, 20, 1)


def test_without_pillow_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(COLOUR))
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        RuntimeMissingError, match=r"Pillow is needed to decode .*pip install 'onnx-oto\[images\]'"
    ):
        decode(path, 3)
