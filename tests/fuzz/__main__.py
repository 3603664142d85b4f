"""Fuzz one target after another: `python -m tests.fuzz --target host query --minutes 30`.

With atheris installed libFuzzer chooses the inputs by the code they reach, else they are put together at random. Each
new way to fail is written, with its input, to the output folder; inputs that reach new code are kept there too.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
import traceback
import typing as t
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from .words import WORDS

CORPUS = Path(__file__).parent / "corpus"
LONGEST = 16 * 1024
# What reads the client's words. To watch all modules would make it several times slower.
WATCHED = [
    *(
        f"asyncflask.{name}"
        for name in (
            "body",
            "cookies",
            "environ",
            "forms",
            "multipart",
            "routing",
            "sessions",
            "signing",
            "wrappers",
            "json.tag",
        )
    ),
    *(f"werkzeug.{name}" for name in ("formparser", "http", "sansio", "urls", "wsgi", "utils", "datastructures")),
    *("itsdangerous", "json"),
]


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--target", nargs="+", choices=WORDS, default=list(WORDS))
    parser.add_argument("--minutes", type=float, default=30, help="for each target")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="what is found, and grown corpora")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class Findings:
    """Runs a target, notes each new way to fail once, and goes on."""

    def __init__(self, target: str, out: Path) -> None:
        from .targets import TARGETS, Site  # now, so that atheris can watch what is imported

        self.name, self.run, self.site = target, TARGETS[target], Site()
        self.out = out / f"{target}-found"
        self.out.mkdir(parents=True, exist_ok=True)
        self.seen: Counter[str] = Counter()
        self.count = 0

    def __call__(self, data: bytes) -> None:
        self.count += 1
        try:
            self.run(self.site, data)
        except Exception as error:
            self._note(error, data)

    def _note(self, error: Exception, data: bytes) -> None:
        cause = error.__cause__ or error
        place = traceback.extract_tb(cause.__traceback__)[-1]
        key = f"{type(cause).__name__}-{Path(place.filename).stem}-{place.lineno}"
        self.seen[key] += 1
        path = self.out / key
        if not path.exists() or len(path.read_bytes()) > len(data):
            path.write_bytes(data)
            path.with_suffix(".txt").write_text(f"{data!r}\n\n{traceback.format_exc()}")
            print(f"{self.name}: {key}: {error}"[:500], flush=True)

    def report(self, seconds: float) -> None:
        print(f"{self.name}: {self.count} inputs in {seconds:.0f} s, failures: {dict(self.seen) or 'none'}", flush=True)


def fuzz_by_coverage(target: str, out: Path, seconds: float) -> None:
    import atheris  # it is not on every machine

    with atheris.instrument_imports(include=WATCHED):
        findings = Findings(target, out)
    grown = out / target
    grown.mkdir(parents=True, exist_ok=True)
    words = out / f"{target}.dict"
    words.write_text("".join(f'"{escape(word)}"\n' for word in WORDS[target]))
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-max_len={LONGEST}",
        f"-dict={words}",
        "-timeout=60",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={findings.out}/",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    begun = time.monotonic()

    def run(data: bytes) -> None:
        findings(data)
        if findings.count % 20_000 == 0:
            findings.report(time.monotonic() - begun)

    atheris.Setup(
        [sys.argv[0], *options, str(grown), *map(str, [CORPUS / target] if (CORPUS / target).is_dir() else [])], run
    )
    atheris.Fuzz()


def escape(word: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in word)


def fuzz_at_random(target: str, out: Path, seconds: float) -> None:
    findings, chance = Findings(target, out), random.Random(target)
    seeds = [path.read_bytes() for path in (CORPUS / target).glob("*")] or [b""]
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        findings(mutate(chance.choice(seeds), WORDS[target], chance))
    findings.report(time.monotonic() - begun)
    findings.site.close()


def mutate(data: bytes, words: t.Sequence[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 8)):
        start, size = chance.randint(0, len(data)), chance.choice((0, 0, 1, 4, 30))
        new = chance.choice(
            (chance.choice(words), chance.randbytes(chance.randint(1, 3)), data[start : start + size] * 2)
        )
        data = data[:start] + new + data[start + size :]
    return data[:LONGEST]


def main() -> None:
    arguments = read_arguments()
    seconds = arguments.minutes * 60
    if not find_spec("atheris"):
        for target in arguments.target:
            fuzz_at_random(target, arguments.out, seconds)
    elif arguments.in_process:
        fuzz_by_coverage(arguments.target[0], arguments.out, seconds)
    else:  # libFuzzer ends its process
        for target in arguments.target:
            options = ["--target", target, "--minutes", str(arguments.minutes), "--out", str(arguments.out)]
            subprocess.run([sys.executable, "-m", __package__, *options, "--in-process"], check=False)


if __name__ == "__main__":
    main()
