"""The browser's engine, `egwalker.js`, under Node.js: without one, these tests are skipped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from random import Random

import generate
import mixed_network
import pytest
from conftest import FIXTURES
from deliver import DOC_ID
from javascript_peer import JavaScriptDocument, Node
from oracle import replay
from serving import PATIENCE

from egwalker import Document
from egwalker.encoding import encode_update

SCRIPTS = Path(__file__).with_name("javascript")
OLDEST = 20
"""The version of Node.js that the scripts ask for."""
DELIVERIES = int(os.environ.get("EGWALKER_DELIVERIES", "1"))
MIXED_RUNS = int(os.environ.get("EGWALKER_MIXED_RUNS", "150"))
"""Random runs of both languages' peers over a faulty network."""
COUNTS = {"reference": 499, "rand3": 600, "typing5": 400, "long8": 8}


def find_node() -> str:
    """The path of a Node.js that is new enough; skips the test if there is none."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node: install Node.js 20 or later to test egwalker.js")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < OLDEST:
        pytest.skip(f"node is {said.strip()}: egwalker.js needs Node.js {OLDEST} or later")
    return node


@pytest.fixture(scope="session")
def node() -> str:
    return find_node()


def run(node: str, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, SCRIPTS / script, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=10 * PATIENCE,
    )


@pytest.mark.parametrize("name", COUNTS)
def test_conformance(node: str, conformance_folder: Path, name: str) -> None:
    """Stored order, run by run, and random causal orders of all histories."""
    file = conformance_folder / f"{name}.json.gz"
    done = run(node, "conformance.js", "--deliveries", str(DELIVERIES), file)
    assert done.stdout.splitlines()[-1:] == [f"{COUNTS[name]} passed, 0 failed"], done.stdout + done.stderr
    assert done.returncode == 0


def test_own_histories(node: str) -> None:
    """The suite's own histories, whose texts are the oracle's."""
    files = [FIXTURES / f"{name}.json" for name in generate.FIXTURES]
    done = run(node, "conformance.js", "--deliveries", "20", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")


def test_units(node: str) -> None:
    """The tests that are written in JavaScript: documents, bytes, sessions, links."""
    tests = sorted(SCRIPTS.glob("*.test.js"))
    assert len(tests) >= 4
    done = subprocess.run(
        [node, "--test", *tests],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=10 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes(node: str, seed: int) -> None:
    """All readers take or refuse what is damaged, and change nothing when they refuse."""
    done = run(node, "fuzz.js", "--rounds", "60", "--seconds", "Infinity", "--seed", str(seed))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert done.stdout.splitlines()[-1] == "60 rounds, no failure"


def test_both_languages_over_a_faulty_network(node: str) -> None:
    """Sessions of both kinds, some documents shallow: in the end all are the same."""
    totals = [0] * len(mixed_network.Result._fields)
    with Node(node) as process:
        for seed in range(MIXED_RUNS):
            try:
                result = mixed_network.run(seed, process)
            except Exception as error:
                error.add_note(f"python tests/mixed_network.py --first {seed} --runs 1")
                raise
            totals = [total + some for total, some in zip(totals, result, strict=True)]
    found = mixed_network.Result(*totals)
    assert found.javascript > MIXED_RUNS
    assert found.shallow > MIXED_RUNS / 3
    assert found.deepened > MIXED_RUNS / 3
    assert found.restarts > MIXED_RUNS / 5


@pytest.mark.parametrize("seed", range(12))
def test_both_languages_agree_on_every_step(node: str, seed: int) -> None:
    """A history with branches in random pieces: texts, versions and past versions are the oracle's."""
    rng = Random(seed)
    world = generate.FIXTURES[rng.choice(list(generate.FIXTURES))](seed)
    oracle = replay(world.txns)
    with Node(node) as process:
        page = JavaScriptDocument(process, "page", doc_id=DOC_ID)
        known = 0
        for batch in generate.batches(rng, generate.causal_order(rng, generate.pieces(rng, world.txns))):
            process.ask("receive_runs", doc=page.number, runs=batch)
            page.changed()
            for txn in batch:
                known |= sum(1 << oracle.graph.index[txn.agent, txn.seq + i] for i in range(txn.length))
            assert page.content == oracle.content(known)
            assert page.version == oracle.graph.version(known)
            assert page.version_vector == oracle.graph.version_vector(known)
            version, past = generate.random_version(rng, oracle.graph, known)
            assert process.ask("checkout", doc=page.number, version=version) == oracle.content(past)
            for pos in {0, oracle.size(past), *[rng.randint(0, oracle.size(past)) for _ in range(5)]}:
                place = process.ask("map_position", doc=page.number, pos=pos, version=version)
                assert place == oracle.place(pos, past, known), (pos, version)
        page.check()
        # Each language reads what the other one has written.
        document = Document.decode(page.encode(), agent="reader")
        assert document.content == page.content
        assert document.version == page.version
        plain = process.ask("since", doc=page.number, version=[])
        other = Document("text", agent="other", id=DOC_ID)
        other.apply(plain)
        assert other.content == page.content
        again = JavaScriptDocument(process, "again", doc_id=DOC_ID)
        process.ask("apply", uncompressed(document), doc=again.number)
        again.changed()
        assert again.content == page.content
        again.check()


def uncompressed(document: Document) -> bytes:
    """All of a document's events as an update of which nothing is compressed."""
    log = document._replica.whole()
    return encode_update(log, bytes.fromhex(document.id), [(0, len(log))], compressed=False)
