import bz2
import concurrent.futures
import gzip
import io
import lzma
import os
import pathlib
import pickle
import tarfile

import pytest
from PIL import Image

from hypersphere import data
from hypersphere.data import _image_files, _tar
from hypersphere.data._tar import open_tar


def content(name):
    """What stands for an image: bytes that differ in kind and length."""
    return f"pixels of {name} ".encode() * (1 + len(name) % 5 * 100)


def tar(names, *, contents=content, format=tarfile.PAX_FORMAT):
    """The bytes of an archive with these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(contents(name))
            archive.addfile(member, io.BytesIO(contents(name)))
    return file.getvalue()


def generic(folder, *, top="", test="test"):
    names = [f"{top}{c}/{k}.jpg" for c in ("dog", "cat") for k in range(3)]
    (folder / "train.tar").write_bytes(tar(names))
    (folder / f"{test}.tar").write_bytes(tar([f"{top}dog/x.PNG", f"{top}cat/y.png"]))


def found(records):
    """Last part of each record's name, its label, and whether its bytes are right."""
    return [
        (records.name(k).rpartition("/")[2], record.label, record.content)
        for k in range(len(records))
        for record in [records[k]]
    ]


@pytest.mark.parametrize("test", ["test", "validation", "val"])
@pytest.mark.parametrize("top", ["", "./", "data/train/", "./set/"])
def test_folders_in_an_archive_are_classes(tmp_path, top, test):
    generic(tmp_path, top=top, test=test)
    opened = open_tar(str(tmp_path))
    assert opened.name == f"tar:{tmp_path}"
    assert opened.class_names == ("cat", "dog")
    assert found(opened.train) == [
        (f"{k}.jpg", label, content(f"{top}{name}/{k}.jpg"))
        for label, name in ((1, "dog"), (0, "cat"))
        for k in range(3)
    ]
    assert found(opened.test) == [
        ("x.PNG", 1, content(f"{top}dog/x.PNG")),
        ("y.png", 0, content(f"{top}cat/y.png")),
    ]
    assert opened.train.name(4) == f"{tmp_path}/train.tar/{top}cat/1.jpg"


def test_archives_beside_each_other_are_classes(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for name in ("dog", "cat"):
            archive = tar([f"{part}_{name}.jpg", f"deep/down/{name}.jpg"])
            (tmp_path / part / f"{name}.tar").write_bytes(archive)
    opened = open_tar(str(tmp_path))
    assert opened.class_names == ("cat", "dog")
    assert found(opened.train) == [
        ("train_cat.jpg", 0, content("train_cat.jpg")),
        ("cat.jpg", 0, content("deep/down/cat.jpg")),
        ("train_dog.jpg", 1, content("train_dog.jpg")),
        ("dog.jpg", 1, content("deep/down/dog.jpg")),
    ]
    assert len(opened.test) == 4


SYNSETS = ("n02", "n01", "n03")


def imagenet(folder, *, labels=("n03", "n01", "n02", "n01")):
    """The published layout; the validation images are not in order in their archive."""
    inner = {
        f"{name}.tar": tar([f"{name}_{k}.JPEG" for k in range(k_max)])
        for k_max, name in enumerate(SYNSETS, start=1)
    }
    outer = tar(inner, contents=inner.__getitem__)
    (folder / "ILSVRC2012_img_train.tar").write_bytes(outer)
    names = [f"ILSVRC2012_val_0000000{k}.JPEG" for k in (2, 4, 1, 3)]
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(names))
    if labels:
        path = folder / "imagenet_2012_validation_synset_labels.txt"
        path.write_text("\n".join(labels) + "\n")


def test_imagenet_is_read_as_published(tmp_path):
    imagenet(tmp_path)
    opened = open_tar(str(tmp_path))
    assert opened.class_names == ("n01", "n02", "n03")
    assert found(opened.train) == [
        (name, label, content(name))
        for name, label in [
            ("n02_0.JPEG", 1),
            ("n01_0.JPEG", 0),
            ("n01_1.JPEG", 0),
            ("n03_0.JPEG", 2),
            ("n03_1.JPEG", 2),
            ("n03_2.JPEG", 2),
        ]
    ]
    # Line k of the labels belongs to the k-th name.
    assert [(name[-6], label) for name, label, _ in found(opened.test)] == [
        ("2", 0),
        ("4", 0),
        ("1", 2),
        ("3", 1),
    ]


def test_validation_labels_of_another_number_are_refused(tmp_path):
    imagenet(tmp_path, labels=("n03", "n01"))
    with pytest.raises(
        ValueError, match="one line .* per image.* 2 lines and 4 images"
    ):
        open_tar(str(tmp_path))


def test_validation_labels_come_from_tensorflow_datasets_otherwise(tmp_path):
    imagenet(tmp_path, labels=())
    with pytest.raises(ValueError, match="50,000 lines and 4 images") as error:
        open_tar(str(tmp_path))
    (path,) = (word for word in str(error.value).split() if "labels.txt" in word)
    lines = pathlib.Path(path).read_text().split()
    # Images 1 to 3 show a sea snake, an alp and a Shetland sheepdog.
    assert lines[:3] == ["n01751748", "n09193705", "n02105855"]
    assert len(set(lines)) == 1000


def test_without_validation_labels_the_message_says_what_to_put_where(
    tmp_path, monkeypatch
):
    imagenet(tmp_path, labels=())
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core, "tfds_path", lambda path: tmp_path / path)
    expected = f"needs {tmp_path}/imagenet_2012_validation_synset_labels.txt, one WordN"
    with pytest.raises(FileNotFoundError, match=expected):
        open_tar(str(tmp_path))


def test_a_missing_validation_archive_is_named(tmp_path):
    imagenet(tmp_path)
    (tmp_path / "ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(FileNotFoundError, match="ILSVRC2012_img_val.tar, which is mis"):
        open_tar(str(tmp_path))


def test_what_is_no_image_is_ignored(tmp_path):
    names = ["a/1.jpg", "a/._1.jpg", ".b/1.jpg", "list.txt", "a/b/c/deep.txt"]
    (tmp_path / "train.tar").write_bytes(tar(names))
    (tmp_path / "test.tar").write_bytes(tar(["a/2.jpg"]))
    opened = open_tar(str(tmp_path))
    assert [name for name, _, _ in found(opened.train)] == ["1.jpg"]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path, format):
    name = "klasse/" + "ä" * 130 + ".jpg"
    names = [name.replace("ä", "ö"), name]
    for part in ("train", "test"):
        (tmp_path / f"{part}.tar").write_bytes(tar(names, format=format))
    train = open_tar(str(tmp_path)).train
    assert train.name(1) == f"{tmp_path}/train.tar/{name}"
    assert train[1].content == content(name)


def test_records_pickle_and_keep_no_file_open(tmp_path):
    generic(tmp_path)
    opened = pickle.loads(pickle.dumps(open_tar(str(tmp_path))))
    expected = [opened.train[k] for k in range(6)]
    before = len(os.listdir("/proc/self/fd"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda k: opened.train[k % 6], range(600)))
        [opened.train.name(k) for k in range(6)]
    assert records == expected * 100
    assert len(os.listdir("/proc/self/fd")) == before


def test_opening_keeps_no_file_open_when_it_fails(tmp_path):
    generic(tmp_path)
    (tmp_path / "train.tar").write_bytes((tmp_path / "train.tar").read_bytes()[:600])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="cut off"):
        open_tar(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("pack", "program"),
    [
        (gzip.compress, "gunzip"),
        (bz2.compress, "bunzip2"),
        (lzma.compress, "unxz"),
        (lambda content: b"\x28\xb5\x2f\xfd" + content, "unzstd"),
        (lambda content: b"PK\x03\x04" + content, "unzip"),
    ],
)
def test_a_compressed_archive_is_named(tmp_path, pack, program):
    generic(tmp_path)
    (tmp_path / "test.tar").write_bytes(pack((tmp_path / "test.tar").read_bytes()))
    message = f"uncompressed archives, got .*test.tar, in .*once with `{program}`"
    with pytest.raises(ValueError, match=message):
        open_tar(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 100, 512, 1000, 1024, 2048, 2100, -10240])
def test_an_archive_cut_off_anywhere_is_named(tmp_path, keep):
    generic(tmp_path)
    path = tmp_path / "train.tar"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"whole tar archives, got .*train\.tar"):
        open_tar(str(tmp_path))


def test_a_broken_header_does_not_pass_for_the_end(tmp_path):
    generic(tmp_path)
    path = tmp_path / "train.tar"
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    broken = bytearray(path.read_bytes())
    broken[third + 20] ^= 1
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=f"train.tar.*end mark at byte {third}"):
        open_tar(str(tmp_path))


def test_a_broken_inner_archive_is_noticed(tmp_path):
    imagenet(tmp_path)
    path = tmp_path / "ILSVRC2012_img_train.tar"
    broken = bytearray(path.read_bytes())
    broken[broken.index(b"n03_1.JPEG") + 20] ^= 1
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="img_train.tar.*no header and no end mark"):
        open_tar(str(tmp_path))


def test_a_linked_image_is_refused(tmp_path):
    generic(tmp_path)
    with tarfile.open(tmp_path / "train.tar", "a") as archive:
        member = tarfile.TarInfo("cat/link.jpg")
        member.type, member.linkname = tarfile.LNKTYPE, "cat/0.jpg"
        archive.addfile(member)
    with pytest.raises(ValueError, match="got cat/link.jpg in .*hard-dereference"):
        open_tar(str(tmp_path))


@pytest.mark.parametrize("names", [["1.jpg"], ["a/1.jpg", "b/a/1.jpg"], ["a/1.txt"]])
def test_other_depths_are_refused(tmp_path, names):
    generic(tmp_path)
    (tmp_path / "train.tar").write_bytes(tar(names))
    with pytest.raises(ValueError, match="CLASS/NAME.* in .*train.tar"):
        open_tar(str(tmp_path))


def test_a_class_without_images_is_named(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "cat.tar").write_bytes(tar(["1.jpg"]))
    (tmp_path / "train" / "dog.tar").write_bytes(tar(["read.me"]))
    with pytest.raises(ValueError, match="got none of dog in .*dog.tar"):
        open_tar(str(tmp_path))


def test_both_parts_need_the_same_classes(tmp_path):
    generic(tmp_path)
    (tmp_path / "test.tar").write_bytes(tar(["cat/1.jpg", "eel/1.jpg"]))
    message = r"got \['eel'\] only in the test part and \['dog'\] only in the training"
    with pytest.raises(ValueError, match=message):
        open_tar(str(tmp_path))


def test_a_folder_without_archives_says_what_it_has(tmp_path):
    (tmp_path / "train.tar.gz").touch()
    message = r"`train\.tar` and one of .*got train\.tar\.gz in .*gunzip"
    with pytest.raises(FileNotFoundError, match=message):
        open_tar(str(tmp_path))


def test_a_path_that_is_no_folder_is_named(tmp_path):
    generic(tmp_path)
    with pytest.raises(FileNotFoundError, match="got .*train.tar, which is a file"):
        open_tar(str(tmp_path / "train.tar"))
    with pytest.raises(FileNotFoundError, match="got .*gone, which does not exist"):
        open_tar(str(tmp_path / "gone"))


def test_an_archive_that_changes_after_opening_is_named(tmp_path):
    generic(tmp_path)
    opened = open_tar(str(tmp_path))
    os.truncate(tmp_path / "train.tar", 1000)
    with pytest.raises(OSError, match="train.tar needs .* bytes.*has changed"):
        opened.train[5]


def test_archives_can_be_loaded_whole(tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (4, 6), (10, 20, 30)).save(image, "PNG")
    files = tar(
        [f"{c}/{k}.png" for c in "ab" for k in "12"],
        contents=lambda _: image.getvalue(),
    )
    (tmp_path / "train.tar").write_bytes(files)
    (tmp_path / "val.tar").write_bytes(files)
    dataset = data.load(f"tar:{tmp_path}", image_size=2)
    assert dataset.train.images.shape == dataset.test.images.shape == (4, 2, 2, 3)
    assert (dataset.train.images == [10, 20, 30]).all()
    assert dataset.class_names == ("a", "b") and [*dataset.train.labels] == [0, 0, 1, 1]


def appended(folder, *archives):
    (folder / "train.tar").write_bytes(b"".join(archives))
    (folder / "test.tar").write_bytes(tar(["a/9.jpg", "b/9.jpg"]))
    return open_tar(str(folder))


def test_what_was_appended_behind_an_end_mark_is_read(tmp_path):
    parts = tar(["a/1.jpg"]), tar(["b/1.jpg"]), tar(["b/2.jpg"])
    opened = appended(tmp_path, parts[0], bytes(5 * 512), *parts[1:])
    assert [(name, label) for name, label, _ in found(opened.train)] == [
        ("1.jpg", 0),
        ("1.jpg", 1),
        ("2.jpg", 1),
    ]


def test_of_a_member_twice_the_last_counts_as_when_unpacking(tmp_path):
    names = ["a/1.jpg", "b/1.jpg"]
    again = tar(["./a/1.jpg"], contents=lambda name: b"the last one")
    opened = appended(tmp_path, tar(names), again)
    assert [(label, content) for _, label, content in found(opened.train)] == [
        (0, b"the last one"),
        (1, content("b/1.jpg")),
    ]


@pytest.mark.parametrize("place", [1, 2])
def test_a_header_that_was_zeroed_is_damage_and_no_end(tmp_path, place):
    whole = bytearray(tar(["a/1.jpg", "b/1.jpg", "b/2.jpg"], format=tarfile.GNU_FORMAT))
    headers = [
        i for i in range(0, len(whole), 512) if whole[i + 257 : i + 262] == b"ustar"
    ]
    whole[headers[place] : headers[place] + 512] = bytes(512)
    with pytest.raises(ValueError, match="cut off, damaged or no tar"):
        appended(tmp_path, bytes(whole))


def test_an_inner_archive_ends_where_the_outer_one_says(tmp_path):
    inner = {"a.tar": tar(["1.jpg"]), "b.tar": tar(["2.jpg", "3.jpg"])}
    outer = tar(list(inner), contents=inner.__getitem__)
    (tmp_path / "x.tar").write_bytes(outer)
    found = _tar._imagenet_train(tmp_path / "x.tar", "x", _image_files.LeftOut())
    assert [name for name, _ in found] == ["a", "b", "b"]


def test_a_member_of_a_size_below_zero_is_damage_and_no_loop(tmp_path):
    whole = bytearray(tar(["a/1.jpg", "b/1.jpg"], format=tarfile.GNU_FORMAT))
    header = whole.index(b"b/1.jpg")
    whole[header + 124 : header + 136] = b"\xff" * 11 + b"\x00"  # -256, in base 256
    number = sum(whole[header : header + 512]) - sum(whole[header + 148 : header + 156])
    whole[header + 148 : header + 156] = b"%06o\0 " % (number + 8 * 32)
    with pytest.raises(ValueError, match="damaged or no tar .a size below zero"):
        appended(tmp_path, bytes(whole))


def webdataset(folder, labels, **more):
    for part in ("train", "val"):
        (folder / part).mkdir()
        for shard in range(2):
            rows = [(f"{shard}{k}", label) for k, label in enumerate(labels)]
            files = {f"{name}.cls": b"%d\n" % label for name, label in rows} | {
                f"{name}.jpg": content(name) for name, _ in rows
            }
            files |= {name: b"x" for name in more.get("others", ())}
            archive = tar(sorted(files), contents=files.__getitem__)
            (folder / part / f"shard-{shard}.tar").write_bytes(archive)


@pytest.mark.parametrize("names", [("2", "10"), ("cat", "dog")])
def test_shards_of_webdataset_have_their_labels_beside_the_images(tmp_path, names):
    webdataset(tmp_path, [10, 2, 10])
    if names[0] == "cat":
        lines = [f"class {k}" for k in range(11)]
        lines[2], lines[10] = names
        (tmp_path / "classes.txt").write_text("\n".join(lines))
    opened = open_tar(str(tmp_path))
    assert opened.class_names == names
    assert found(opened.train) == [
        (f"{shard}{k}.jpg", label, content(f"{shard}{k}"))
        for shard in range(2)
        for k, label in enumerate((1, 0, 1))
    ]


def test_an_image_of_a_shard_without_a_label_is_named(tmp_path):
    webdataset(tmp_path, [1, 0], others=("lost.jpg",))
    with pytest.raises(ValueError, match=r"in lost\.cls in .*, got 'no such file'"):
        open_tar(str(tmp_path))
