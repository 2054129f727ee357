"""A clip of an hour: 90,000 frames at 25 a second, read and audited in bounded memory."""

import av
import pytest
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from real import HELD
from vidprism import sample_clips

FRAMES, RATE, LIMIT_MB = 90_000, 25, 500

SCRIPT = """
import resource, sys
{imports}
def most():
    return max({held}, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
before = most()
{code}
print(most() - before)
"""


def hour(path: Path) -> Path:
    "The packets of a shipped clip, again and again, until the hour is full: no picture is encoded."
    with av.open(str(sample_clips()[1])) as source:
        stream = source.streams.video[0]
        packets = [(bytes(packet), packet.is_keyframe) for packet in source.demux(stream) if packet.size]
        with av.open(str(path), "w") as target:
            copy = target.add_stream_from_template(stream)
            copy.time_base = Fraction(1, RATE)
            for k in range(FRAMES):
                data, key = packets[k % len(packets)]
                packet = av.Packet(data)
                packet.pts = packet.dts = k
                packet.time_base = Fraction(1, RATE)
                packet.is_keyframe = key
                packet.stream = copy
                target.mux(packet)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return hour(tmp_path_factory.mktemp("hour") / "hour.mp4")


def run(imports: str, code: str) -> list:
    "What a fresh process prints; its last line: MB beyond its imports, at most."
    script = SCRIPT.format(held=HELD, imports=imports, code=code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["None", "'pyav'", "'decord'"])
def test_hour_is_read(clip, decoder):
    "Right frames, right times, and memory that does not grow with the clip."
    code = f"""
clip = read_clip({str(clip)!r}, num_frames=16, decoder={decoder})
source = read_clip(sample_clips()[1], num_frames=32, decoder="pyav")
far = (clip.frames.int() - source.frames[clip.indices % source.total].int()).abs().amax()
print(clip.total, int(clip.times[-1]), int(clip.indices[-1]), int(far))"""
    total, last, index, far, peak = run("from vidprism import read_clip, sample_clips", code)
    assert int(total) == FRAMES
    assert int(index) == FRAMES * 31 // 32
    assert int(last) == FRAMES * 31 // 32 // RATE
    assert int(peak) < LIMIT_MB
    assert int(far) <= 2


@pytest.mark.long
def test_hour_is_audited(clip, tmp_path):
    "The audit of the hour: one verdict, in memory that does not grow with the clip."
    code = f"""
report = audit_clips({str(clip.parent)!r}, {str(tmp_path / "report")!r})
print(len(report.rows), report.rows[0].decoded, report.rows[0].verdict)"""
    count, decoded, verdict, peak = run("from vidprism.data.audit import audit_clips", code)
    assert (int(count), int(decoded), verdict) == (1, FRAMES, "ok")
    assert int(peak) < LIMIT_MB
