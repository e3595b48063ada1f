"""Scalars in TensorBoard's event files, written without TensorFlow.

An event file is a sequence of records: length (uint64, little-endian), masked CRC-32C of those 8 bytes, data, masked CRC-32C
of the data. The data are `Event` messages of protocol buffers, of which this writes the fields wall_time (1), step (2),
file_version (3) and summary (5) with its values' tag (1) and simple_value (2). Source: TensorFlow's record_writer.h,
event.proto and summary.proto; CRC-32C: RFC 3720, B.4.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_VERSION = b"brain.Event:2"


def version_record(wall_time: float = 0.0) -> bytes:
    """The record that every event file begins with."""
    return _record(_double(1, wall_time) + _bytes(3, _VERSION))


def scalars_record(step: int, values: Mapping[str, float], wall_time: float = 0.0) -> bytes:
    """A record of one step's scalars. They become float32, too large ones infinite.

    Arguments:
        step: an integer that fits 64 bits.
        wall_time: seconds since 1970.
    """
    summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items())
    return _record(_double(1, wall_time) + _key(2, 0) + _varint(step) + _bytes(5, summary))


def crc32c(data: bytes) -> int:
    """The cyclic redundancy check with Castagnoli's polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The check as records store it: rotated and shifted, so that checks of data with checks inside stay useful."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_table_entry(byte) for byte in range(256)]


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF  # negative numbers are stored as their 64-bit complement
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _bytes(field: int, data: bytes) -> bytes:
    return _key(field, 2) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    with np.errstate(over="ignore"):
        return _key(field, 5) + np.float32(value).astype("<f4").tobytes()
