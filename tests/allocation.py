"""What the C library has handed out: exact, where the memory of the process depends on what came before."""

import ctypes


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of the C library of GNU."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


def allocated() -> int:
    """Bytes that are in use now, of all pools. For the C library of GNU alone."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Allocated
    found = ask()
    return int(found.uordblks) + int(found.hblkhd)
