#!/usr/bin/python3
"""Checks the floors (includes go only downwards), the doors (one library, one place that uses it)
and the one door between threads. Prints a line per fault; exit status 1 if there is one."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {"codec": {"codec"}, "transport": {"transport", "codec"},
          "core": {"core", "transport", "codec"}}

# Header pattern -> the files (patterns) that may include it.
DOORS = [
    (r"wolfssl/(?!options\.h|wolfcrypt/sha256\.h)", r"transport/(io_tls|tls_context)\.[ch]", "TLS"),
    (r"wolfssl/wolfcrypt/sha256\.h", r"codec/encode_signed\.c", "hashing"),
    (r"wolfssl/options\.h", r"(transport/(io_tls|tls_context)|codec/encode_signed)\.[ch]", "wolfSSL"),
    (r"hiredis/|(hiredis|read|sds|async)\.h", r"(transport/redis_(link|handshake)|codec/redis_reader\w*)\.[ch]", "hiredis"),
    (r"yaml\.h", r"core/config_\w+\.[ch]", "libyaml"),
    (r"msgpack", r"codec/encode_msgpack\.[ch]", "msgpack"),
    (r"pthread\.h|threads\.h", r"core/\w+\.[ch]", "threads"),
    (r"event2/|ev(ent|http|dns|util)\.h", r"(transport|core)/\w+\.[ch]", "libevent"),
    (r"sys/socket\.h|netinet/|netdb\.h|sys/uio\.h", r"(transport|core)/\w+\.[ch]", "sockets"),
]

# Threads meet only here: mutexes and atomics.
SHARED = re.compile(r"\b(pthread_(mutex|cond|rwlock|spin)\w*|atomic_\w+|_Atomic|__atomic_\w+"
                    r"|__sync_\w+|stdatomic\.h|volatile)\b")
SHARED_DOORS = re.compile(r"core/(mailbox|metrics|log)\.[ch]")
SHARED_ALLOWED = {
    # "file": "why it needs one",
}

COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|("(?:\\.|[^"\\])*")', re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def without_comments(text):
    """Comments become blanks of the same lines; string literals stay (includes are in quotes)."""
    return COMMENT.sub(lambda m: m.group(1) or "\n" * m.group(0).count("\n"), text)


def check(path, text):
    floor = path.split("/")[0]
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1)) + 1
        quoted, header = match.group(1) == '"', match.group(2)
        if quoted and header.split("/")[0] not in FLOORS:
            yield line, f'"{header}": own headers are named from the root, e.g. "codec/bytes.h"'
        elif quoted and header.split("/")[0] not in FLOORS[floor]:
            yield line, f'"{header}": {floor}/ includes only {", ".join(sorted(FLOORS[floor]))}'
        elif quoted and not (ROOT / header).exists():
            yield line, f'"{header}": there is no such file'
        for pattern, allowed, library in DOORS:
            if not quoted and re.match(pattern, header) and not re.fullmatch(allowed, path):
                yield line, f"<{header}>: {library} is used only in {allowed}"
    if SHARED_DOORS.fullmatch(path) or path in SHARED_ALLOWED:
        return
    for match in SHARED.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield line, f"{match.group(0)}: threads meet only in mailbox, metrics and log"


def main():
    faults = 0
    for floor in FLOORS:
        for file in sorted((ROOT / floor).rglob("*.[ch]")):
            path = file.relative_to(ROOT).as_posix()
            for line, text in check(path, without_comments(file.read_text(encoding="utf-8"))):
                print(f"{path}:{line}: {text}")
                faults += 1
    for path in SHARED_ALLOWED:
        if not (ROOT / path).exists():
            print(f"{path}: stands in SHARED_ALLOWED but does not exist")
            faults += 1
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
