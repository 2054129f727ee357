"""Stereoscopic video of two layers (MV-HEVC), laid out as phones write it: one `hvc1` track in a .mov.

x265 encodes the left view; no encoder of the second layer is at hand, so the right view repeats its slices with
`nuh_layer_id` 1, which a reader of the left view skips. The parameter set that declares both views is written here,
bit by bit, from ITU-T H.265 (F.7.3.2.1), the boxes from ISO/IEC 14496-15 (`lhvC`) and Apple's notes (`vexu`)."""

import av
import re
import struct
from fractions import Fraction

SIZE = 128, 96
VPS, SPS, PPS = 32, 33, 34


class Bits:
    "Bits of a parameter set, written or read from the left."

    def __init__(self, data=b""):
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, count):
        "The next bits."
        found = self.text[self.at : self.at + count]
        self.at += count
        return found

    def golomb(self):
        "The bits of the next Exp-Golomb number."
        zeros = self.text.index("1", self.at) - self.at
        return self.take(2 * zeros + 1)

    def put(self, value, count):
        "Append a number of some bits."
        self.text += f"{value:0{count}b}"

    def put_golomb(self, value):
        "Append an Exp-Golomb number."
        count = (value + 1).bit_length()
        self.put(value + 1, 2 * count - 1)

    def align(self, bit):
        "Fill the last byte."
        self.text += bit * (-len(self.text) % 8)

    def closed(self):
        "The bytes, after the trailing bit."
        self.text += "1"
        self.align("0")
        return bytes(int(self.text[i : i + 8], 2) for i in range(0, len(self.text), 8))


def unescaped(data):
    "Without the bytes that prevent a start code."
    return data.replace(b"\0\0\3", b"\0\0")


def escaped(data):
    "With the bytes that prevent a start code."
    out, zeros = bytearray(), 0
    for byte in data:
        if zeros == 2 and byte < 4:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def kind_of(unit):
    "Type of a NAL unit."
    return unit[0] >> 1 & 63


def second(unit):
    "The unit, in the second layer."
    return bytes([unit[0], 1 << 3 | unit[1] & 7]) + unit[2:]


def two_views(vps, size):
    "The video parameter set of one layer, extended by a second view that depends on the first."
    old, new = Bits(unescaped(vps[2:])), Bits()
    new.text = old.take(6)  # id, base layer internal and available
    old.take(6)
    new.put(1, 6)  # two layers
    new.text += old.take(4) + old.take(16) + old.take(96)  # sub-layers, reserved, profile and level
    new.text += old.take(1)
    sizes = [old.golomb() for _ in range(3)]  # of the buffer
    new.text += "".join(sizes)
    new.put(1, 6)  # highest layer
    new.put_golomb(1)  # two layer sets
    new.put(3, 2)  # the second has both layers
    new.put(0, 1)  # no timing
    new.put(1, 1)  # extension
    new.align("1")
    new.put(93, 8)  # level
    new.put(0, 1)
    new.put(1 << 14, 16)  # scalability: multiview
    new.put(0, 3)  # one bit a dimension
    new.put(0, 1)
    new.put(1, 1)  # view order of layer 1
    new.put(1, 4)  # one bit a view
    new.put(1, 2)  # views 0 and 1
    new.put(1, 1)  # layer 1 depends on layer 0
    new.put(0, 2)
    new.put(1, 1)  # all reference layers are active
    new.put_golomb(1)  # two profiles
    new.put_golomb(0)
    new.put(0, 2)
    new.put(3, 2)  # the second profile for both
    new.put_golomb(0)  # one format
    new.put(size[0], 16)
    new.put(size[1], 16)
    new.put(1, 1)
    new.put(1, 2)  # 4:2:0
    new.put(0, 8)  # 8 bits of luma and chroma
    new.put(0, 1)
    new.put(1, 1)
    new.put(0, 2)
    new.text += sizes[0] + "".join(sizes)
    new.put_golomb(0)
    new.put(1, 1)
    new.put(2, 2)  # samples and motion
    new.put_golomb(0)
    new.put(0, 1)  # no usability information
    new.put(0, 1)  # no further extension
    return vps[:2] + escaped(new.closed())


def units_of(data):
    "NAL units, each after its length in four bytes."
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def kinds_of(data):
    "(type, layer) of each NAL unit."
    return [(kind_of(unit), (unit[0] & 1) << 5 | unit[1] >> 3) for unit in units_of(data)]


def box(kind, data):
    "A box of a QuickTime file."
    return struct.pack(">I4s", 8 + len(data), kind) + data


def arrays(units):
    "The arrays of a decoder configuration, one for each kind of unit."
    parts = [struct.pack(">BHH", 0x80 | kind_of(unit), 1, len(unit)) + unit for unit in units]
    return bytes([len(parts)]) + b"".join(parts)


def sets_of(hvcc):
    "The parameter sets of an `hvcC` record."
    at, found = 23, []
    for _ in range(hvcc[22]):
        count = int.from_bytes(hvcc[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(hvcc[at : at + 2], "big")
            found.append(hvcc[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def boxes_in(data, path, made):
    "Replace the contents of the box at `path` by `made(contents)`."
    out, at = b"", 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        inner = data[at + 8 : at + length]
        if kind == path[0]:
            inner = made(inner) if len(path) == 1 else boxes_in(inner, path[1:], made)
        out += box(kind, inner)
        at += length
    return out


def described(contents):
    "The sample description, whose entry is `hvc1` with the second layer and the boxes of spatial video."
    entry = contents[16:]
    at = entry.index(b"hvcC")
    length = int.from_bytes(entry[at - 4 : at], "big")
    hvcc = entry[at + 4 : at - 4 + length]
    sets = sets_of(hvcc)
    both = [two_views(unit, SIZE) if kind_of(unit) == VPS else unit for unit in sets]
    base = box(b"hvcC", hvcc[:22] + arrays(both))
    later = [second(unit) for unit in sets if kind_of(unit) in (SPS, PPS)]
    layered = box(b"lhvC", bytes([1, 0xF0, 0, 0xFC, 0xCF]) + arrays(later))
    eyes = box(b"stri", bytes([0, 0, 0, 0, 3])) + box(b"hero", bytes([0, 0, 0, 0, 1]))
    spatial = box(b"vexu", box(b"eyes", eyes)) + box(b"hfov", struct.pack(">I", 63500))
    return contents[:8] + box(b"hvc1", entry[: at - 4] + base + layered + spatial + entry[at - 4 + length :])


def with_both(packet, stream):
    "A packet of the encoder, in which each slice stands once more, in the second layer."
    units = [unit for unit in re.split(b"\0*\0\0\1", bytes(packet)) if unit]
    pictures = [second(unit) for unit in units if kind_of(unit) < VPS]
    made = av.Packet(b"".join(b"\0\0\0\1" + unit for unit in units + pictures))
    made.stream, made.time_base, made.pts, made.dts = stream, packet.time_base, packet.pts, packet.dts
    made.is_keyframe = packet.is_keyframe
    return made


def write_views(path, pictures, views):
    "Pictures [H,W,3] as HEVC with one view or two."
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"x265-params": "log-level=none:bframes=0:keyint=4:pools=none:frame-threads=1"}
        frames = [av.VideoFrame.from_ndarray(picture) for picture in pictures]
        for k, frame in enumerate(frames):
            frame.pts, frame.time_base = k, Fraction(1, 25)
        packets = [packet for frame in (*frames, None) for packet in stream.encode(frame)]
        for packet in packets:
            file.mux(with_both(packet, stream) if views == 2 else packet)
    if views == 2:
        place = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
        path.write_bytes(boxes_in(path.read_bytes(), place, described))
