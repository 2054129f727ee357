"""Attacks on shards: what a stranger may put into a folder of packed clips, and what `pack` may do to a folder.

Each attack ends in one sentence. No file outside the folder is written or deleted, no command runs, no bomb unfolds.
"""

import gzip
import io
import json
import os
import pickle
import pytest
import random
import resource
import struct
import subprocess
import sys
import tarfile
import warnings
import webdataset
import zipfile
from pathlib import Path
from vidprism.data.clips import sample_clips
from vidprism.data.shards import ShardClips, pack
from vidprism.errors import ClipError, ConfigError, VidPrismError

CLIP = sample_clips()[0].read_bytes()
ABOUT = b'{"item": "a", "label": 0, "name": "x"}'


def member(name, data=b"", **header):
    "A member of a tar file as (TarInfo, bytes)."
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in header.items():
        setattr(info, field, value)
    return info, data


def write_shard(path, members, format=tarfile.USTAR_FORMAT):
    "A tar file of (TarInfo, bytes); a declared size need not be true."
    out = io.BytesIO()
    for info, data in members:
        padding = b"\0" * (-len(data) % 512)
        out.write(info.tobuf(format) + data + padding)
    out.write(bytes(1024))
    path.write_bytes(out.getvalue())


def write_index(folder, shards=(("clips-000000.tar", 1),), **other):
    "An index as `pack` writes it."
    index = dict(format="webdataset", classes=["x"], clips=sum(count for _, count in shards), shards=list(shards))
    (folder / "index.json").write_text(json.dumps({**index, **other}))


@pytest.fixture
def folder(tmp_path):
    "A folder for shards, deep enough that names can lead out of it."
    path = tmp_path / "a" / "b" / "shards"
    path.mkdir(parents=True)
    return path


def victims(tmp_path):
    "Files outside the folder, which stay as they are."
    paths = [tmp_path / "x.mp4", tmp_path / "a" / "x.mp4", tmp_path / "a" / "b" / "x.mp4", tmp_path / "x.docx"]
    for path in paths:
        path.write_text("precious")
    return paths


def read_all(folder, **options):
    "Everything that the shards give."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(ShardClips(folder, num_frames=2, size=32, **options))


def refusal(folder, **options) -> str:
    "The sentence with which a folder is refused."
    with pytest.raises(ConfigError) as error:
        read_all(folder, **options)
    text = str(error.value)
    assert text.endswith(".")
    assert "Traceback" not in text
    return text


HOSTILE_NAMES = [
    "../../x.mp4",
    "../x.mp4",
    "../../../../../../../../abs/x.mp4",
    "sub/../../x.mp4",
    "./x.mp4",
    "..\\x.mp4",
    "C:x.mp4",
    "a\nb.mp4",
    " .mp4",
    "..mp4",
    "é.mp4",
    "a.b.c.d.mp4",
    "a." + "m" * 90,
    "-.m/../p4",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_hostile_member(folder, tmp_path, name):
    "A member's name never leads out of the temporary folder: it is refused before its bytes are read."
    outside = victims(tmp_path)
    stem = name.rpartition(".")[0] if "." in name else name
    write_shard(folder / "clips-000000.tar", [member(name, CLIP), member(f"{stem}.json", ABOUT)])
    write_index(folder)
    refusal(folder)
    assert [path.read_text() for path in outside] == ["precious"] * 4


def test_absolute_member(folder, tmp_path):
    "An absolute name neither replaces nor deletes the file of that name."
    outside = victims(tmp_path)
    for victim in outside:
        name = str(victim)[-99:] if len(str(victim)) > 99 else str(victim)
        write_shard(folder / "clips-000000.tar", [member(name, CLIP), member("0.json", ABOUT)])
        write_index(folder)
        assert "plain name" in refusal(folder)
    long = write_long_name(folder, str(outside[3]))
    assert "a regular file" in long
    assert [path.read_text() for path in outside] == ["precious"] * 4


def write_long_name(folder, name):
    "The refusal of a name that stands in an extended header, as PAX and GNU write long ones."
    texts = []
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        info, data = member(name + "y" * 120 + ".mp4", CLIP)
        write_shard(folder / "clips-000000.tar", [(info, data), member("0.json", ABOUT)], format)
        write_index(folder)
        texts.append(refusal(folder))
    assert texts[0].split(":")[-1].split()[-3:] == texts[1].split(":")[-1].split()[-3:]
    return texts[0]


@pytest.mark.parametrize("workers", (0, 1))
def test_hostile_member_in_a_process(folder, tmp_path, workers):
    "A loading process refuses it, too, in one sentence."
    outside = victims(tmp_path)
    write_shard(folder / "clips-000000.tar", [member("../../x.mp4", CLIP), member("../../x.json", ABOUT)])
    write_index(folder)
    with pytest.raises(ConfigError) as error:
        list(ShardClips(folder, num_frames=2, size=32).loader(1, workers=workers))
    assert "\n" not in str(error.value)
    assert outside[1].read_text() == "precious"


KINDS = dict(
    symlink=tarfile.SYMTYPE,
    hardlink=tarfile.LNKTYPE,
    character=tarfile.CHRTYPE,
    block=tarfile.BLKTYPE,
    fifo=tarfile.FIFOTYPE,
    folder=tarfile.DIRTYPE,
    contiguous=tarfile.CONTTYPE,
    sparse=tarfile.GNUTYPE_SPARSE,
    pax=tarfile.XHDTYPE,
    pax_global=tarfile.XGLTYPE,
    longname=tarfile.GNUTYPE_LONGNAME,
    unknown=b"Z",
)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_member(folder, kind):
    "Only regular files are read: no links, devices, sparse files or extended headers."
    target = "/etc/passwd" if "link" in kind else ""
    data = b"" if target else CLIP
    odd = member("0.mp4", data, type=KINDS[kind], linkname=target)
    write_shard(folder / "clips-000000.tar", [odd, member("0.json", ABOUT)])
    write_index(folder)
    assert "a regular file" in refusal(folder)


@pytest.mark.parametrize("size", (len(CLIP) + 1500, 1 << 32, 8**11 - 1))
def test_declared_size(folder, size):
    "A declared size is compared with the file before anything is read."
    write_shard(folder / "clips-000000.tar", [member("0.mp4", CLIP[:10], size=size)])
    write_index(folder)
    assert "more than are left" in refusal(folder)


def test_binary_sizes(folder):
    "Sizes in base 256, below 0 and beyond all files."
    for field in (b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"\x80" * 12):
        info, _ = member("0.mp4")
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = field
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        (folder / "clips-000000.tar").write_bytes(bytes(block) + bytes(2048))
        write_index(folder)
        refusal(folder)


def good_shard(folder, count=3):
    "A shard of so many clips; its bytes."
    members = []
    for i in range(count):
        members += [member(f"{i:08d}.json", ABOUT), member(f"{i:08d}.mp4", CLIP)]
    write_shard(folder / "clips-000000.tar", members)
    write_index(folder, [("clips-000000.tar", count)])
    return (folder / "clips-000000.tar").read_bytes()


def number_read(path, item, label, epoch):
    "A reader that decodes nothing."
    return path.stat().st_size


def test_truncated(folder):
    "A shard that ends early, at whatever byte, is an error: no clip is missing silently."
    whole = good_shard(folder)
    assert len(read_all(folder, read=number_read)) == 3
    generator = random.Random(5)
    blocks = range(0, len(whole) - 1024, 512)
    cuts = [0, 1, 511, 512, 1024, *generator.sample(blocks, 20), *generator.sample(range(len(whole) - 1024), 20)]
    for cut in cuts:
        (folder / "clips-000000.tar").write_bytes(whole[:cut])
        refusal(folder, read=number_read)
        if cut % 512 == 0:
            (folder / "clips-000000.tar").write_bytes(whole[:cut] + bytes(1024))
            refusal(folder, read=number_read)


def test_mutated(folder):
    "Bytes drawn anew in headers and JSON: the clips as they were, or one sentence."
    whole = good_shard(folder)
    heads = [i for i in range(0, len(whole), 512) if whole[i : i + 6] == b"000000"]
    generator = random.Random(11)
    for _ in range(300):
        wild = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            wild[generator.choice(heads) + generator.randrange(1024)] = generator.randrange(256)
        (folder / "clips-000000.tar").write_bytes(wild)
        try:
            assert len(read_all(folder, read=number_read)) == 3
        except ConfigError as error:
            assert str(error).endswith(".")


def test_names_that_collide(folder):
    "Two clips of one name, and names that differ in case on one key."
    pair = [member("0.mp4", CLIP), member("0.json", ABOUT)]
    write_shard(folder / "clips-000000.tar", pair + pair)
    write_index(folder, [("clips-000000.tar", 2)])
    assert "twice" in refusal(folder, read=number_read)
    for names in (("0.mp4", "0.avi"), ("0.json", "0.json"), ("0.mp4", "1.json"), ("0.mp4", "0.json", "0.pkl")):
        write_shard(folder / "clips-000000.tar", [member(name, ABOUT) for name in names])
        write_index(folder)
        refusal(folder)


def test_more_clips_than_promised(folder):
    "A shard with more or fewer clips than the index promises is an error."
    for promised in (2, 4):
        good_shard(folder, 3)
        write_index(folder, [("clips-000000.tar", promised)])
        assert "index lists" in refusal(folder, read=number_read)


class Payload:
    "A pickle that makes a file."

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("ending", ("pkl", "pickle", "pyd", "pt", "pth", "npy", "npz", "cls", "docx", "sh", "mp4.gz"))
def test_ending(folder, tmp_path, ending):
    "Only the endings that `pack` writes are decoded; a pickle is not opened."
    write_shard(
        folder / "clips-000000.tar",
        [member(f"0.{ending}", pickle.dumps(Payload(tmp_path / "PWNED")))] + [member("0.json", ABOUT)],
    )
    write_index(folder)
    assert "its ending must be one of" in refusal(folder)
    assert not (tmp_path / "PWNED").exists()


ABOUTS = [
    b"",
    b"null",
    b"[]",
    b"[" * 50_000,
    b'{"item": "a"}',
    b'{"item": ["a"], "label": 0}',
    b'{"item": "a", "label": -1}',
    b'{"item": "a", "label": 1}',
    b'{"item": "a", "label": true}',
    b'{"item": "a", "label": 0.0}',
    b'{"item": "a", "label": NaN}',
    b'{"item": "a", "label": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
]


@pytest.mark.parametrize("about", ABOUTS, ids=lambda about: ascii(about[:40]))
def test_about(folder, about):
    "The JSON beside a clip holds a name and a label among the classes."
    write_shard(folder / "clips-000000.tar", [member("0.mp4", CLIP), member("0.json", about)])
    write_index(folder)
    assert "0.json" in refusal(folder)


HOSTILE_SHARDS = [
    "pipe:touch PWNED; cat clips-000000.tar",
    "pipe:touch PWNED",
    "pipe:touch${IFS}PWNED.tar",
    "http://localhost:1/clips-000000.tar",
    "https://localhost/x.tar",
    "file:clips-000000.tar",
    "s3://bucket/x.tar",
    "hf://x.tar",
    "../clips-000000.tar",
    "sub/clips-000000.tar",
    "sub\\clips-000000.tar",
    "/etc/passwd",
    "-",
    "",
    ".",
    "..",
    ".tar",
    "clips-000000.tar\n",
    "clips-000000.tar\0",
    "clips-{000000..000001}.tar",
    "clips-000000.tar.gz",
    "x" * 5000 + ".tar",
    None,
    5,
    ["clips-000000.tar"],
]


@pytest.mark.parametrize("name", HOSTILE_SHARDS, ids=lambda name: ascii(name)[:40])
def test_hostile_shard(folder, tmp_path, monkeypatch, name):
    "A shard is a plain file of the folder: no command, no address, no way out. Relative folders, too."
    monkeypatch.chdir(folder)
    good_shard(folder, 1)
    (folder.parent / "clips-000000.tar").write_bytes((folder / "clips-000000.tar").read_bytes())
    (folder / "sub").mkdir()
    (folder / "sub" / "clips-000000.tar").write_bytes((folder / "clips-000000.tar").read_bytes())
    if isinstance(name, str) and 0 < len(name) < 200 and "\0" not in name and not name.startswith(("/", ".")):
        planted = folder / name  # the check for missing files would pass
        planted.parent.mkdir(parents=True, exist_ok=True)
        if not planted.exists():
            planted.write_bytes((folder / "clips-000000.tar").read_bytes())
    index = dict(format="webdataset", classes=["x"], clips=1, shards=[[name, 1]], left_out=[])
    (folder / "index.json").write_text(json.dumps(index))
    for place in (".", folder, Path("../shards")):
        refusal(place)
    assert not list(tmp_path.rglob("PWNED*"))


def test_linked_shard(folder, tmp_path):
    "A shard that is a link, a pipe or a folder is not opened."
    whole = good_shard(folder, 1)
    shard = folder / "clips-000000.tar"
    shard.unlink()
    (tmp_path / "elsewhere.tar").write_bytes(whole)
    shard.symlink_to(tmp_path / "elsewhere.tar")
    assert "is a link" in refusal(folder)
    shard.unlink()
    os.mkfifo(shard)
    assert "lacks" in refusal(folder)
    shard.unlink()
    shard.mkdir()
    assert "lacks" in refusal(folder)


def test_linked_index(folder):
    "An index that is a link to something else, or a pipe, is not read."
    good_shard(folder, 1)
    index = folder / "index.json"
    index.unlink()
    index.symlink_to("/etc/passwd")
    refusal(folder)
    index.unlink()
    os.mkfifo(index)
    refusal(folder)


GOOD = dict(format="webdataset", classes=["x"], clips=1, shards=[["clips-000000.tar", 1]], left_out=[])
BROKEN = [
    b"",
    b"null",
    b"5",
    b'"index"',
    b"[]",
    b"{}",
    b"\xff\xfe\x00",
    b"\x00" * 100,
    b"[" * 100_000,
    b'{"shards": ' + b"9" * 5000 + b"}",
    b'{"shards": 1e999}',
    *(
        json.dumps({**GOOD, **change}).encode()
        for change in (
            dict(classes=None),
            dict(classes=5),
            dict(classes=[1, 2]),
            dict(classes={"x": 0}),
            dict(clips=None),
            dict(clips=-1),
            dict(clips=2),
            dict(clips=True),
            dict(clips=1.0),
            dict(clips="1"),
            dict(shards=None),
            dict(shards={}),
            dict(shards=[]),
            dict(shards=["clips-000000.tar"]),
            dict(shards=[["clips-000000.tar"]]),
            dict(shards=[["clips-000000.tar", 0]]),
            dict(shards=[["clips-000000.tar", -1]], clips=-1),
            dict(shards=[["clips-000000.tar", 1e9]], clips=1e9),
            dict(shards=[["clips-000000.tar", 10**30]], clips=10**30),
            dict(shards=[["clips-000000.tar", 1, 1]]),
            dict(shards=[["clips-000000.tar", 1], ["clips-000000.tar", 1]], clips=2),
            dict(shards=[["clips-000000.tar", 1], ["CLIPS-000000.tar", 1]], clips=2),
        )
    ),
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: ascii(text[-60:]))
def test_broken_index(folder, text):
    "A malformed index is refused in one sentence that names the file."
    good_shard(folder, 1)
    (folder / "index.json").write_bytes(text)
    assert "index.json" in refusal(folder)


def test_switch(tmp_path):
    "In a fresh process, WebDataset's own switch is on as soon as the kit's shards can be read."
    code = (
        "import vidprism.data.shards, webdataset\n"
        "assert webdataset.utils.enforce_security\n"
        "for url in ('pipe:touch PWNED', 'pipe:touch PWNED; cat x.tar'):\n"
        "    try: next(iter(webdataset.WebDataset(url, shardshuffle=False)))\n"
        "    except ValueError as error: assert 'cannot open pipe' in str(error), error\n"
        "    else: raise SystemExit('opened')\n"
    )
    env = {**os.environ, "WDS_SECURE": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_rewriting(folder, monkeypatch):
    "The variables that make WebDataset open something else change nothing."
    good_shard(folder, 1)
    monkeypatch.setenv("GOPEN_REWRITE", f"{folder}=pipe:touch PWNED")
    assert len(read_all(folder, read=number_read)) == 1


def test_compressed_shard(folder):
    "A compressed shard, which could be a bomb, is not a plain tar file."
    good_shard(folder, 1)
    bomb = gzip.compress(bytes(64 << 20))
    for data in (bomb, gzip.compress((folder / "clips-000000.tar").read_bytes())):
        (folder / "clips-000000.tar").write_bytes(data)
        assert "not a plain tar file" in refusal(folder)


def image():
    "A small picture."
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, "PNG")
    return out.getvalue()


def archive(files, compression=zipfile.ZIP_STORED):
    "The bytes of a zip of (name, bytes)."
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as made:
        warnings.simplefilter("ignore")
        for name, data in files:
            made.writestr(name, data)
    return out.getvalue()


def overlapping():
    "A zip in which 26 entries of different names share the bytes of one."
    whole = archive([("1.png", bytes(1 << 16))])
    start = whole.index(b"PK\x01\x02")
    entry, end = whole[start : whole.index(b"PK\x05\x06")], whole[whole.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"1.png", bytes([letter]) + b".png") for letter in range(97, 123))
    counts = struct.pack("<HHL", 26, 26, len(entries))
    return whole[:start] + entries + end[:8] + counts + end[16:]


ARCHIVES = dict(
    outside=archive([("../../x.png", image())]),
    absolute=archive([("/abs/x.png", image())]),
    folder=archive([("sub/1.png", image())]),
    windows=archive([("C:\\x.png", image())]),
    other=archive([("1.png", image()), ("run.sh", b"touch PWNED")]),
    bomb=archive([("1.png", bytes(64 << 20))], zipfile.ZIP_DEFLATED),
    twice=archive([("1.png", image()), ("1.PNG", image())]),
    overlapping=overlapping(),
    cut=archive([("1.png", image())])[:-30],
    none=b"no archive",
    empty=b"",
)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archive(folder, tmp_path, kind):
    "An archive that `pack` would not write is left out with a warning; it unfolds nothing."
    outside = victims(tmp_path)
    write_shard(folder / "clips-000000.tar", [member("0.frames.zip", ARCHIVES[kind]), member("0.json", ABOUT)])
    write_index(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.warns(UserWarning, match="a is left out: Its archive"):
        assert list(ShardClips(folder, num_frames=2, size=32)) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    assert [path.read_text() for path in outside] == ["precious"] * 4


def test_good_archive(folder):
    "The archive that `pack` writes is read."
    frames = archive([(f"img_{i}.png", image()) for i in range(3)])
    write_shard(folder / "clips-000000.tar", [member("0.frames.zip", frames), member("0.json", ABOUT)])
    write_index(folder)
    assert [frames.shape for frames, _ in read_all(folder)] == [(2, 32, 32, 3)]


CLIPS = [(path, i % 2) for i, path in enumerate(sample_clips()[:4])]


def contents(folder):
    "Name and bytes of each file below a folder."
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ("clips-2019-backup.tar", "clips-000000.tar", "notes.txt", "sub/a.txt"))
def test_pack_foreign(tmp_path, name):
    "A folder that the kit did not make is refused, and nothing in it is deleted."
    (tmp_path / "own" / name).parent.mkdir(parents=True)
    (tmp_path / "own" / name).write_text("mine")
    with pytest.raises(ConfigError):
        pack(CLIPS, tmp_path / "own")
    assert contents(tmp_path / "own") == {name: b"mine"}


def test_pack_overwrite(tmp_path):
    "Overwriting removes what the folder's own index names, and nothing else."
    own = tmp_path / "own"
    pack(CLIPS, own, shard_size=1)
    for name in ("clips-2019-backup.tar", "clips-999999.tar", "clips-000000.tar.bak", "notes.txt"):
        (own / name).write_text("mine")
    pack(CLIPS, own, shard_size=2, overwrite=True)
    names = {"clips-000000.tar", "clips-000001.tar", "index.json"}
    mine = {"clips-2019-backup.tar", "clips-999999.tar", "clips-000000.tar.bak", "notes.txt"}
    assert set(contents(own)) == names | mine
    assert all((own / name).read_text() == "mine" for name in mine)
    assert len(read_all(own)) == 4


def test_pack_tampered_index(tmp_path):
    "An index that names a file of the user's does not make it the kit's."
    own = tmp_path / "own"
    pack(CLIPS, own, shard_size=4)
    index = json.loads((own / "index.json").read_text())
    (own / "backup.tar").write_text("mine")
    index["shards"].append(["backup.tar", 1])
    index["clips"] += 1
    (own / "index.json").write_text(json.dumps(index))
    pack(CLIPS, own, shard_size=4, overwrite=True)
    assert (own / "backup.tar").read_text() == "mine"


def test_pack_clash(tmp_path):
    "A file of the user's with a shard's name, or a foreign index.json, is never replaced."
    own = tmp_path / "own"
    own.mkdir()
    (own / "clips-000001.tar").write_text("mine")
    with pytest.raises(ConfigError, match="move that file away"):
        pack(CLIPS, own, shard_size=2, overwrite=True)
    (own / "clips-000001.tar").unlink()
    (own / "index.json").write_text('{"pages": []}')
    with pytest.raises(ConfigError, match="not an index of packed clips"):
        pack(CLIPS, own, overwrite=True)
    assert contents(own) == {"index.json": b'{"pages": []}'}


def test_pack_stopped(tmp_path):
    "Packing that is stopped leaves the folder as it was, and nothing beside it."
    own = tmp_path / "own"
    pack(CLIPS, own, shard_size=2)
    before = contents(tmp_path)

    def stop(done, count):
        if done == 3:
            raise KeyboardInterrupt

    for out, overwrite in ((own, True), (tmp_path / "new", False)):
        with pytest.raises(KeyboardInterrupt):
            pack(CLIPS, out, shard_size=1, overwrite=overwrite, progress=stop)
    assert contents(tmp_path) == before


def test_pack_command(tmp_path, monkeypatch):
    "A folder whose name WebDataset would take for a command is a folder."
    monkeypatch.chdir(tmp_path)
    pack(CLIPS, "pipe:touch PWNED; cat >", shard_size=2)
    assert not Path("PWNED").exists()
    assert len(read_all("pipe:touch PWNED; cat >", read=number_read)) == 4


def test_pack_odd_names(tmp_path):
    "Names with line ends, quotes, no UTF-8 or odd suffixes are packed and read; their clips are the same."
    names = [
        "a\nb.mp4",
        "=1+1.mp4",
        b"\xff\xfe.mp4",
        "x.PKL",
        "noname",
        ".mp4",
        "a.tar",
        "é.MOV",
        "x.__key__",
        "y.json",
    ]
    rows = []
    for i, name in enumerate(names):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + (name if isinstance(name, bytes) else name.encode())))
        path.write_bytes(CLIP)
        rows.append((path, i))
    packed = pack(rows, tmp_path / "out", shard_size=3)
    assert packed.left_out == []
    read = read_all(tmp_path / "out")
    assert sorted(label for _, label in read) == list(range(len(names)))
    items = {item for _, _, item, _ in ShardClips(tmp_path / "out").samples(0, 1)}
    assert items == {str(path) for path, _ in rows}


def test_pack_labels(tmp_path):
    "A label of a thousand million is not a thousand million classes."
    for label in (10**9, 10**18, -1):
        with pytest.raises(ConfigError, match="[Tt]he label"):
            pack([(CLIPS[0][0], label)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_webdataset_reads_them(tmp_path):
    "Shards stay what any reader of WebDataset reads, where the switch is off."
    pack(CLIPS, tmp_path / "out", shard_size=4)
    code = (
        "import sys, webdataset as wds\n"
        "rows = list(wds.WebDataset(sys.argv[1], shardshuffle=False))\n"
        "assert [sorted(k for k in row if k[0] != '_') for row in rows] == [['json', 'mp4']] * 4, rows[0].keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out" / "clips-000000.tar")], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert webdataset.utils.enforce_security


def test_one_family(folder):
    "Every refusal is the kit's own error."
    assert issubclass(ConfigError, VidPrismError)
    assert issubclass(ClipError, VidPrismError)


def test_two_packs(tmp_path):
    "Of two processes that pack into one new folder, the second to finish is refused; the first one's clips stay."

    def other(done, count):
        if done == 1:
            pack(CLIPS[:2], tmp_path / "own", shard_size=1)

    with pytest.raises(ConfigError, match="already"):
        pack(CLIPS, tmp_path / "own", shard_size=2, progress=other)
    assert len(read_all(tmp_path / "own", read=number_read)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
