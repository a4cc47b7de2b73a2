# What every guest of test/languages does, in Python: README.md beside says what.

import os
import sys

from wit_world import exports
from wit_world.imports import exit


def right(value, bits):
    return (value >> bits | value << (32 - bits)) & 0xFFFFFFFF


def checksum():
    a, b = 0x6A09E667, 0xBB67AE85
    for i in range(100_000):
        a = (right(a, 6) ^ right(a, 11) ^ right(a, 25)) + b + i & 0xFFFFFFFF
        b = (right(b, 2) ^ right(b, 13) ^ right(b, 22)) ^ a
    return a ^ b


class Run(exports.Run):
    def run(self):
        # A line is seen when it is there.
        sys.stdout.reconfigure(line_buffering=True)
        print("arguments:", "|".join(sys.argv[1:]))
        print("COLOUR:", os.environ.get("COLOUR", ""))
        try:
            with open("/data/in") as file:
                read = file.read().strip()
        except OSError as error:
            read = error
        print("read:", read)
        written = "/data/out"
        try:
            with open(written, "w") as file:
                file.write("written by a guest\n")
        except OSError as error:
            written = error
        print("written:", written)
        print(f"checksum: {checksum():08x}")
        print("input:", len(sys.stdin.buffer.read()), "bytes")
        print("a line of standard error", file=sys.stderr)
        # `sys.exit(7)` ends a component with 1.
        exit.exit_with_code(7)
