from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from io_media import bomb_png, corners, encode_image, quadrants
from PIL import Image

from vision.errors import ConfigError, InvalidInputError, LimitExceededError, MediaError
from vision.io.images import HEADER_BYTES, ImageLimits, decode_image, is_image_header, read_image

UPRIGHT = ["red", "green", "blue", "white"]
# What the stored pixels must be, so that a viewer who applies the orientation sees the upright picture.
STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}


def with_orientation(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode_image(np.ascontiguousarray(STORED[orientation](quadrants())), kind, exif=exif.tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_exactly_once(orientation: int, kind: str) -> None:
    if kind == "TIFF":
        picture = Image.fromarray(np.ascontiguousarray(STORED[orientation](quadrants())))
        data = encode_image(picture, kind, tiffinfo={0x0112: orientation})
    else:
        data = with_orientation(orientation, kind)
    image = decode_image(data)
    assert image.shape == (48, 64, 3)
    assert corners(image) == UPRIGHT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_that_goes_through_pillow_is_turned_alike(orientation: int) -> None:
    plain = with_orientation(orientation, "JPEG")
    # Bytes behind the end marker send the file to Pillow instead of OpenCV.
    np.testing.assert_array_equal(decode_image(plain), decode_image(plain + b"trailer"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00garbage"])
def test_damaged_exif_counts_as_upright(exif: bytes) -> None:
    assert corners(decode_image(encode_image(quadrants(), "JPEG", exif=exif))) == UPRIGHT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_gives_rgb(kind: str) -> None:
    image = decode_image(encode_image(quadrants(), kind))
    assert (image.dtype, image.shape) == (np.uint8, (48, 64, 3))
    assert image.flags.c_contiguous
    assert corners(image) == UPRIGHT


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("L", "JPEG", (76, 76, 76)),
        ("L", "PNG", (76, 76, 76)),
        ("1", "PNG", (255, 255, 255)),
        ("P", "PNG", (255, 0, 0)),
        ("CMYK", "JPEG", (255, 0, 0)),
        ("CMYK", "TIFF", (255, 0, 0)),
        ("YCbCr", "JPEG", (255, 0, 0)),
        ("LA", "PNG", (76, 76, 76)),
        ("RGBA", "PNG", (255, 0, 0)),
        ("RGBA", "WEBP", (255, 0, 0)),
    ],
)
def test_pixel_modes(mode: str, kind: str, expected: tuple[int, int, int]) -> None:
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    picture = Image.new("1", (32, 32), 1) if mode == "1" else red.convert(mode)
    image = decode_image(encode_image(picture, kind))
    np.testing.assert_allclose(image[16, 16], expected, atol=3)


def test_transparent_pixels_are_laid_on_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, 2:] = (0, 0, 255, 255)
    rgba[0, 2:, 3] = 128
    image = decode_image(encode_image(Image.fromarray(rgba), "PNG"))
    assert image[3, 0].tolist() == [255, 255, 255]
    assert image[3, 3].tolist() == [0, 0, 255]
    np.testing.assert_allclose(image[0, 3], (127, 127, 255), atol=1)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_a_transparent_palette_colour_is_white(transparency: int | bytes) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 255, 0, 0])
    picture.putpixel((3, 3), 1)
    image = decode_image(encode_image(picture, "PNG", transparency=transparency))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_is_scaled_and_not_clipped(suffix: str, channels: int) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    stored = ramp if channels == 1 else np.repeat(ramp[..., None], 3, axis=2)
    image = decode_image(cv2.imencode(suffix, stored)[1].tobytes())
    np.testing.assert_array_equal(image[..., 0], np.arange(256).reshape(16, 16))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_big_endian_16_bit_tiff() -> None:
    picture = Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x00, 0xFF, 0xFF]))
    assert decode_image(encode_image(picture, "TIFF"))[0, :, 0].tolist() == [128, 255]


def test_32_bit_grey_is_refused_because_its_range_is_unknown() -> None:
    with pytest.raises(MediaError, match=r"8 or 16 bits"):
        decode_image(encode_image(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = encode_image(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_short_is_refused(kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode_image(noise, kind)
    with pytest.raises(MediaError, match=r"^photo\.x "):
        decode_image(data[: int(len(data) * kept)], source="photo.x")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused_and_never_grey(progressive: bool) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode_image(noise, "JPEG", progressive=progressive)
    for length in range(2, len(data) - 2, 37):
        with pytest.raises(MediaError):
            decode_image(data[:length])


def test_a_jpeg_cut_after_its_thumbnail_is_refused() -> None:
    thumbnail = encode_image(quadrants(16, 16), "JPEG")
    data = encode_image(quadrants(), "JPEG", exif=b"Exif\x00\x00" + thumbnail)
    end = data.index(b"\xff\xd9") + 2
    assert end < len(data)
    with pytest.raises(MediaError):
        decode_image(data[:end])


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
def test_opencv_and_pillow_decode_jpeg_to_the_same_bits(options: dict[str, object]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    data = encode_image(noise, "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"hello world, this is text", "begin with b'hello wo'"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "begin with b'RIFF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "begin with"),
    ],
)
def test_other_bytes_are_named_with_what_was_found(data: bytes, found: str) -> None:
    with pytest.raises(MediaError) as caught:
        decode_image(data, source="notes.jpg")
    message = str(caught.value)
    assert message.startswith("notes.jpg must be a JPEG")
    assert found in message
    assert "\n" not in message


def test_pixels_are_counted_before_decoding() -> None:
    data = bomb_png()
    assert len(data) < 20_000
    with pytest.raises(LimitExceededError, match=r"12000 x 12000") as caught:
        decode_image(data)
    assert caught.value.expected == "<= 100000000 pixels"


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_sizes_beyond_pillows_own_limit_are_ours_to_refuse(side: int) -> None:
    with pytest.raises(LimitExceededError, match=f"{side} x {side}"):
        decode_image(bomb_png(side, side))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_the_pixel_limit_is_inclusive(kind: str) -> None:
    data = encode_image(quadrants(), kind)
    assert decode_image(data, limits=ImageLimits(max_pixels=48 * 64)).shape == (48, 64, 3)
    with pytest.raises(LimitExceededError, match="64 x 48"):
        decode_image(data, limits=ImageLimits(max_pixels=48 * 64 - 1))


@pytest.mark.parametrize(("width", "height"), [(65536, 1), (1, 65536), (50_000_000, 1), (1, 50_000_000)])
def test_a_picture_of_few_pixels_may_still_be_too_long(width: int, height: int) -> None:
    with pytest.raises(LimitExceededError, match=f"at most 65535 pixels a side, got {width} x {height}"):
        decode_image(bomb_png(width, height))


@pytest.mark.parametrize(("width", "height"), [(64, 1), (1, 64)])
def test_the_limit_of_a_side_is_inclusive(width: int, height: int) -> None:
    data = encode_image(np.zeros((height, width, 3), np.uint8))
    assert decode_image(data, limits=ImageLimits(max_side=64)).shape == (height, width, 3)
    with pytest.raises(LimitExceededError, match="at most 63 pixels a side"):
        decode_image(data, limits=ImageLimits(max_side=63))


def test_bytes_are_limited_in_memory_and_on_disk(tmp_path: Path) -> None:
    data = encode_image(quadrants())
    path = tmp_path / "a.png"
    path.write_bytes(data)
    limits = ImageLimits(max_bytes=len(data) - 1)
    with pytest.raises(LimitExceededError, match="bytes"):
        decode_image(data, limits=limits)
    with pytest.raises(LimitExceededError, match="bytes"):
        read_image(path, limits=limits)
    assert read_image(path, limits=ImageLimits(max_bytes=len(data))).size_hw == (48, 64)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "bytes_per_pixel"),
    [
        ("JPEG", "RGB", {}, 6),
        ("JPEG", "L", {}, 6),
        ("JPEG", "RGB", {"progressive": True}, 9),
        ("JPEG", "CMYK", {}, 14),
        ("PNG", "RGB", {}, 14),
        ("PNG", "RGBA", {}, 20),
        ("PNG", "P", {"transparency": 0}, 20),
        ("WEBP", "RGB", {}, 22),
        ("WEBP", "RGBA", {}, 28),
    ],
)
def test_what_decoding_takes_is_booked_before_and_given_back(
    kind: str, mode: str, options: dict[str, object], bytes_per_pixel: int
) -> None:
    data = encode_image(Image.new(mode, (50, 40)), kind, **options)
    reserved: list[int] = []
    borrowed: list[int] = []
    decode_image(data, reserve=reserved.append, borrow=borrowed.append)
    passing = (bytes_per_pixel - 3) * 2000
    assert (reserved, borrowed) == ([6000], [passing, -passing])


def test_nothing_is_decoded_where_there_is_no_room_for_it() -> None:
    def borrow(n_bytes: int) -> None:
        raise LimitExceededError(f"no room for {n_bytes}")

    damaged = encode_image(quadrants(), "PNG")[:-40]
    with pytest.raises(LimitExceededError, match="no room for 33792"):
        decode_image(damaged, borrow=borrow)


@pytest.mark.parametrize("field", ["max_pixels", "max_bytes", "max_side"])
def test_limits_must_be_positive(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        ImageLimits(**{field: 0})


def test_read_image_gives_a_frame_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_image(quadrants()))
    frame = read_image(path, index=3)
    assert (frame.index, frame.timestamp_s, frame.source) == (3, None, str(path))
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 0


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text"])
def test_read_image_names_the_file_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "not a picture\n" * 9)
    with pytest.raises(MediaError, match=r"photo\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_is_image_header_knows_each_format(kind: str) -> None:
    assert is_image_header(encode_image(quadrants(), kind)[:HEADER_BYTES])
    assert not is_image_header(b"\x00\x00\x00 ftypisom")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_random_damage_raises_only_our_errors(kind: str) -> None:
    rng = np.random.default_rng(3)
    data = encode_image(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), kind)
    limits = ImageLimits(max_pixels=1_000_000)
    for _ in range(400):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(2, min(len(damaged), 400), size=rng.integers(1, 6))
        damaged[places] = rng.integers(0, 256, len(places))
        try:
            assert decode_image(damaged.tobytes(), limits=limits).dtype == np.uint8
        except InvalidInputError:
            continue
