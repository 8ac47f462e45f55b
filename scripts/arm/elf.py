"""Reads how the parts of a library have to be aligned in memory."""

import struct
from pathlib import Path

_LOAD = 1
_AARCH64 = 183


def load_alignments(library: Path) -> list[int]:
    """Return the alignment of each part that is mapped, in bytes, at least one.

    A part that asks for less than a page of the kernel cannot be mapped.

    Args:
        library: a 64-bit ELF file for ARM.

    Raises:
        ValueError: it is another file.

    Source:
        elf.h: Elf64_Ehdr and Elf64_Phdr.
    """
    data = library.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != _AARCH64:
        raise ValueError(f"{library} is no little-endian 64-bit ELF file for ARM")
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, start + size * at) for at in range(count)]
    return [header[7] for header in headers if header[0] == _LOAD]
