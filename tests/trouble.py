"A function that fails as a reader of clips might, for the tests of the process that calls it."

import ctypes
import os
from vidprism.errors import ClipError


def trouble(path, kind: str) -> int:
    "Wait for ever in C code with Python's lock held, crash, fill the memory, refuse, or return the process's number."

    def _walk_decord():
        if kind == "hang":
            ctypes.PyDLL(None).sleep(1000)
        if kind == "crash":
            ctypes.string_at(0)
        if kind == "memory":
            bytearray(64 << 30)
        if kind == "refusal":
            raise ClipError(f"{path} is empty.")
        return os.getpid()

    return _walk_decord()
