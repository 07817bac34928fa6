"""What another emulator shows for the bytes of a terminal: `emulate.py COLS ROWS < BYTES`."""

import re
import sys

import pyte

columns, rows = int(sys.argv[1]), int(sys.argv[2])
screen = pyte.Screen(columns, rows)
stream = pyte.ByteStream(screen)
drawn = sys.stdin.buffer.read()
# pyte takes what asks for other keys for colours, and passes over REP: the character before it once more,
# so many times.
drawn = re.sub(rb"\x1b\[[>?][0-9;]*m", b"", drawn)
drawn = re.sub(rb"([\x20-\x7e])\x1b\[(\d+)b", lambda m: m[1] * (1 + int(m[2])), drawn)
stream.feed(drawn)
lines = [line.rstrip() for line in screen.display]
while lines and not lines[-1]:
    lines.pop()
sys.stdout.write("".join(line + "\n" for line in lines))
