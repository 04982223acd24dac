import io
import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from hypersphere.data import _decode
from hypersphere.data._decode import central_crop, random_resized_crop


@pytest.fixture(params=["opencv", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(_decode, "cv2", None)
    return request.param


@pytest.fixture
def both(monkeypatch):
    """Calls a function with either decoder."""
    assert _decode.cv2 is not None  # the extra `[test]` brings it

    def call(function, *args, **options):
        by_opencv = function(*args, **options)
        with monkeypatch.context() as without:
            without.setattr(_decode, "cv2", None)
            return by_opencv, function(*args, **options)

    return call


def encode(image, extension="JPEG", **options):
    file = io.BytesIO()
    image.save(file, extension, **options)
    return file.getvalue()


def photo(width, height, mode="RGB"):
    """Smooth colors with a little grain, so that it compresses like a photograph."""
    rng = np.random.default_rng([width, height])
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.integers(-3, 4, (height, width, 3))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def ramp(width, height):
    """An image whose red says the column and whose green says the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def crops(content, count, *, seed=0, **options):
    rng = np.random.default_rng(seed)
    return np.stack(
        [random_resized_crop(content, rng, **options) for _ in range(count)]
    )


def boxes(images):
    """Left, top, width and height of crops of `ramp`, to about a pixel."""
    size = images.shape[1]
    for image in images.astype(float):
        across, down = image[size // 2, :, 0], image[:, size // 2, 1]
        first, last = 1, size - 2  # where no border is near
        found = []
        for line in (across, down):
            step = (line[last] - line[first]) / (last - first)
            found.append((line[first] - (first + 0.5) * step + 0.5, step * size))
        (left, width), (top, height) = found
        yield left, top, width, height


def reference_center(image, image_size=32, crop_fraction=0.875):
    """Resizes the whole image, then cuts."""
    shorter = round(image_size / crop_fraction)
    width, height = image.size
    if width <= height:
        size = (shorter, shorter * height // width)
    else:
        size = (shorter * width // height, shorter)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - image_size) / 2) for side in size)
    return np.asarray(resized.crop((left, top, left + image_size, top + image_size)))


@pytest.mark.parametrize("extension", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(97, 64), (64, 97), (50, 50), (301, 200), (20, 31)])
def test_the_center_is_that_of_the_resized_image(decoder, size, extension):
    content = encode(photo(*size), extension)
    decoded = Image.open(io.BytesIO(content)).convert("RGB")
    for image_size, crop_fraction in ((32, 0.875), (28, 1.0), (21, 0.7)):
        found = central_crop(
            content, image_size=image_size, crop_fraction=crop_fraction
        )
        exact = reference_center(decoded, image_size, crop_fraction)
        difference = np.abs(np.subtract(found, exact, dtype=int))
        assert difference.max() <= 2  # each of two passes rounds to 8 bits
        assert difference.mean() < 0.3


@pytest.mark.slow
def test_crops_are_spread_as_asked(decoder):
    content = encode(ramp(240, 180), "PNG")
    images = crops(content, 300, image_size=16)
    left, top, width, height = np.array(list(boxes(images))).T
    assert min(left.min(), top.min()) > -1.5
    assert (left + width).max() < 241.5 and (top + height).max() < 181.5
    share, shape = width * height / (240 * 180), np.log(width / height)
    assert 0.07 < share.min() < 0.12 and 0.9 < share.max() < 1.03
    assert -0.33 < shape.min() < -0.25 and 0.25 < shape.max() < 0.33
    rng = np.random.default_rng(9)
    drawn = rng.uniform(0.08, 1, 10**5)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 10**5))
    area = drawn * 240 * 180
    fits = (np.sqrt(area * ratio) <= 240) & (np.sqrt(area / ratio) <= 180)
    for quantile in (0.25, 0.5, 0.75):
        wanted = np.quantile(drawn[fits], quantile), np.quantile(ratio[fits], quantile)
        found = np.quantile(share, quantile), np.quantile(np.exp(shape), quantile)
        np.testing.assert_allclose(found, wanted, atol=0.06)
    free = 240 - width > 20
    assert abs(np.mean(left[free] / (240 - width[free])) - 0.5) < 0.06


def test_scale_and_ratio_limit_the_crop(decoder):
    content = encode(ramp(200, 200), "PNG")
    images = crops(content, 60, image_size=16, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    found = np.array(list(boxes(images)))
    np.testing.assert_allclose(found[:, 2:], 100, atol=1.5)
    assert np.ptp(found[:, :2], 0).min() > 60


@pytest.mark.parametrize("size", [(200, 20), (20, 200)])
def test_what_never_fits_gives_the_center(decoder, size):
    (image,) = crops(encode(ramp(*size), "PNG"), 1, image_size=16, scale=(1.0, 1.0))
    left, top, width, height = next(boxes(image[None]))
    longer = 20 * 4 / 3
    expected = (longer, 20) if size[0] > 20 else (20, longer)
    np.testing.assert_allclose((width, height), expected, atol=1.5)
    np.testing.assert_allclose(
        (left + width / 2, top + height / 2), (size[0] / 2, size[1] / 2), atol=1.5
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (3, 200)])
def test_the_smallest_images_can_be_cropped(decoder, size):
    content = encode(Image.new("RGB", size, (9, 8, 7)), "PNG")
    images = crops(content, 20, image_size=4)
    assert (images == [9, 8, 7]).all()
    assert (central_crop(content, image_size=4) == [9, 8, 7]).all()


def test_the_generator_decides_the_crop(decoder):
    content = encode(photo(90, 70))
    once, again, other = (
        crops(content, 4, seed=seed, image_size=12) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert (once != other).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("extension", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "image_size"), [((90, 70), 80), ((150, 110), 64), ((900, 700), 40)]
)
def test_crops_hardly_depend_on_the_decoder(both, size, image_size, extension):
    content = encode(photo(*size), extension)
    found = both(crops, content, 8, image_size=image_size)
    difference = np.abs(np.subtract(*found, dtype=int))
    # Pillow averages over a few pixels where OpenCV takes the nearest two.
    assert difference.max() <= 16
    assert difference.mean() < 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}],
)
def test_the_center_does_not_depend_on_the_decoder(both, mode, options):
    content = encode(photo(131, 77, mode), **options)
    by_opencv, by_pillow = both(central_crop, content, image_size=64)
    assert np.abs(np.subtract(by_opencv, by_pillow, dtype=int)).max() <= 1


@pytest.mark.parametrize(("area", "factor"), [(0.02, 1), (0.1, 2), (0.3, 4), (1.0, 8)])
def test_large_crops_are_decoded_small_and_still_right(
    decoder, area, factor, monkeypatch
):
    image, image_size = photo(1200, 900), 100
    content = encode(image, quality=95)
    sizes = []
    resize = _decode._resize
    monkeypatch.setattr(
        _decode, "_resize", lambda x, size: sizes.append(x.shape) or resize(x, size)
    )
    options = {"scale": (area, area), "ratio": (1.0, 1.0)}
    (found,) = crops(content, 1, image_size=image_size, **options)
    side = min(round(math.sqrt(area * 1200 * 900)), 900)
    assert max(sizes[0]) == pytest.approx(side / factor, abs=1)

    rng = np.random.default_rng(0)
    left, top, columns, rows = _decode._draw_box(1200, 900, rng, *options.values())
    box = (left, top, left + columns, top + rows)
    size = (image_size, image_size)
    exact = np.asarray(image.resize(size, Image.Resampling.BOX, box))
    difference = np.abs(np.subtract(found, exact, dtype=int))
    assert difference.mean() < 2 and difference.max() < 16


def square(image):
    """All of a small square image, unchanged: to look at single pixels."""
    return central_crop(image, image_size=8, crop_fraction=1.0)


def test_gray_becomes_three_equal_channels(decoder):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    for extension in ("PNG", "BMP"):
        found = square(encode(Image.fromarray(pixels), extension))
        np.testing.assert_array_equal(found, pixels[..., None].repeat(3, -1))
    found = square(encode(Image.new("L", (8, 8), 77)))
    np.testing.assert_array_equal(found, np.full((8, 8, 3), 77))


def test_16_bit_gray_keeps_its_upper_8_bits(decoder):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1021
    found = square(encode(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(found, (pixels >> 8)[..., None].repeat(3, -1))


def test_transparent_pixels_are_white(decoder):
    pixels = np.full((8, 8, 4), [10, 20, 30, 255], np.uint8)
    pixels[:4, :, 3] = 0
    found = square(encode(Image.fromarray(pixels), "PNG"))
    assert (found[:4] == 255).all() and (found[4:] == [10, 20, 30]).all()


def test_a_transparent_palette_is_looked_up(decoder):
    image = Image.fromarray(np.indices((8, 8))[1].astype(np.uint8) // 4).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    found = square(encode(image, "PNG", transparency=bytes([255, 0])))
    assert (found[:, :4] == [200, 0, 0]).all() and (found[:, 4:] == 255).all()


def test_cmyk_has_the_colors_of_pillow(decoder):
    content = encode(photo(64, 48).convert("CMYK"))
    decoded = Image.open(io.BytesIO(content)).convert("RGB")
    found, exact = central_crop(content, image_size=32), reference_center(decoded)
    assert np.abs(np.subtract(found, exact, dtype=int)).max() <= 1


@pytest.mark.parametrize("orient", [True, False])
@pytest.mark.parametrize(
    ("kind", "orientation"),
    [*(("JPEG", k) for k in (1, 3, 5, 6, 8)), *(("TIFF", k) for k in (3, 5, 6))],
)
def test_an_image_is_turned_the_way_its_exif_tells(decoder, kind, orientation, orient):
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 24))
    image.paste("lime", (0, 24, 32, 48))
    plain, saved = image.copy(), dict(quality=95, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(image, quality=95, subsampling=0, exif=exif)
    if orient:  # by the library
        plain = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    plain = encode(plain, "PNG" if kind == "TIFF" else "JPEG", **saved)
    options = dict(image_size=8, orient=orient)
    if kind == "TIFF":  # which Pillow itself turns
        content = encode(image, "TIFF", exif=exif)
    pairs = [
        (central_crop(each, crop_fraction=1.0, **options), crops(each, 1, **options)[0])
        for each in (content, plain)
    ]
    for found, expected in zip(*pairs, strict=True):
        assert np.abs(found.astype(int) - expected).max() <= 12  # of JPEGs


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("1", (3000, 3000)).save(file, "PNG")
    with pytest.raises(ValueError, match="3000 x 3000 pixels, more than the 1,000,000"):
        central_crop(file.getvalue(), image_size=8, max_pixels=1_000_000)


def test_a_file_of_another_format_is_not_opened_whatever_it_is_called():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    with pytest.raises(ValueError, match="cannot be decoded .cannot identify"):
        central_crop(program, image_size=8)


def test_bytes_behind_the_end_do_not_matter(decoder):
    content = encode(photo(60, 50))
    np.testing.assert_array_equal(
        central_crop(content + b"\0garbage", image_size=16),
        central_crop(content, image_size=16),
    )


CUT = [
    *((extension, {}) for extension in ("JPEG", "PNG", "BMP", "GIF")),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"subsampling": 0}),
]


@pytest.mark.parametrize(("extension", "options"), CUT)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused(decoder, extension, options, share):
    content = encode(photo(120, 90), extension, **options)
    content = content[: round(len(content) * share)]
    with pytest.raises(ValueError, match="central_crop.*a file of .* bytes, which"):
        central_crop(content, image_size=16)
    with pytest.raises(ValueError, match="random_resized_crop.*cannot be decoded"):
        crops(content, 1, image_size=16)


def test_opencv_never_sees_a_jpeg_that_is_cut_short(monkeypatch):
    content = encode(photo(120, 90))
    seen = []
    monkeypatch.setattr(_decode, "_pixels_by_opencv", lambda *args: seen.append(args))
    for cut in (len(content) - 1, len(content) - 2, len(content) // 2):
        with pytest.raises(ValueError, match="truncated|Truncated"):
            central_crop(content[:cut], image_size=16)
    assert not seen


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xd9"])
def test_a_file_that_is_no_image_is_refused(decoder, content):
    with pytest.raises(ValueError, match=f"{len(content)} bytes.*cannot be decoded"):
        central_crop(content, image_size=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "`image_size >= 1` pixels, got `image_size=0`"),
        ({"scale": (0.0, 1.0)}, r"0 < scale\[0\].*got `scale=\(0.0, 1.0\)`"),
        ({"scale": (0.5, 0.4)}, r"scale\[0\] <= scale\[1\] <= 1"),
        ({"scale": (0.5, 1.5)}, r"scale\[1\] <= 1"),
        ({"ratio": (0.0, 1.0)}, r"0 < ratio\[0\].*got `ratio=\(0.0, 1.0\)`"),
        ({"ratio": (2.0, 1.0)}, r"ratio\[0\] <= ratio\[1\]"),
    ],
)
def test_crops_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        crops(encode(photo(20, 20)), 1, **{"image_size": 8, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": -1}, "`central_crop` needs `image_size >= 1`"),
        ({"crop_fraction": 0.0}, "0 < crop_fraction <= 1`.*got `crop_fraction=0.0`"),
        ({"crop_fraction": 1.1}, "got `crop_fraction=1.1`"),
    ],
)
def test_centers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        central_crop(encode(photo(20, 20)), **{"image_size": 8, **options})
