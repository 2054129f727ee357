"Real clips and weights that are not the kit's: where they are, and what a test does without them."
from pathlib import Path
import os
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VIDPRISM_SHARED", ROOT.parent / "shared"))


def shared(*parts):
    "A shared file, or skip by its name."
    path = SHARED.joinpath(*parts)
    if not path.exists(): pytest.skip(f"{'/'.join(parts)} is not here")
    return path
