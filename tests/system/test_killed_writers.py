"""Writers killed at every step in the file system; no reader may see part of a generation.

A step is an audit event of Python that names a path below the index: a file is opened, created,
renamed or removed. The child kills itself (SIGKILL) right before its n-th step.
"""

import json
from pathlib import Path

import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.generation.history import collect_garbage, list_generations, roll_back
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from tests.conftest import run_script

WRITERS = ("build", "update", "apply", "rollback", "gc")

KILLED = """
import json, os, pathlib, shutil, signal, sys

from service.retrieval.corpus.changes import Change
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.corpus.reader import Passage
from service.retrieval.generation.history import collect_garbage, roll_back

folder, checkpoint, *writers = sys.argv[1:]
encoder = load_encoder(checkpoint, device="cpu")
first, old, new = (
    [("f", Passage(str(row), f"{text} {row}")) for row in range(count)]
    for text, count in (("first", 3), ("old", 5), ("new", 9))
)
puts = [("f", Change(passage.passage_id, passage)) for _, passage in new]
write = {
    "build": lambda index: build_index(new, index, encoder),
    "update": lambda index: update_index([*old[:3], *new[5:]], index, encoder),
    "apply": lambda index: apply_changes(puts, index, encoder),
    "rollback": roll_back,
    "gc": lambda index: collect_garbage(index, 0),
}
template = pathlib.Path(folder, "template")
build_index(first, template, encoder)
build_index(old, template, encoder)
steps_left, root = 0, "\\0"
EVENTS = {
    "open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree",
    "sqlite3.connect", "tempfile.mkdtemp", "tempfile.mkstemp",
}

def count_step(event, arguments):
    global steps_left
    paths = [str(each) for each in arguments if isinstance(each, (str, os.PathLike))]
    if event in EVENTS and any(path.startswith(root) for path in paths):
        steps_left -= 1
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count_step)
counts = dict.fromkeys(writers, 0)
for writer in writers:
    is_killed = True
    while is_killed:
        index = pathlib.Path(folder, f"{writer}-{counts[writer] + 1:03}")
        shutil.copytree(template, index)
        child = os.fork()
        if child == 0:
            steps_left, root = counts[writer] + 1, str(index)
            write[writer](index)
            os._exit(0)
        is_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        counts[writer] += is_killed
sys.stdout.write(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path
) -> dict[str, list[Path]]:
    """Return one index per step at which each writer was killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = run_script(KILLED, folder, tiny_checkpoint, *WRITERS, timeout_seconds=800)
    assert done.returncode == 0, done.stderr
    return {
        writer: [folder / f"{writer}-{number:03}" for number in range(1, count + 1)]
        for writer, count in json.loads(done.stdout).items()
    }


def live_texts(index: Path, encoder: Encoder) -> set[str]:
    """Open the live generation as a service does; return its passages' first words and number."""
    generation = open_current(index)
    Searcher(encoder, generation).check_canaries()
    passages = generation.passages.read(range(len(generation.passages)))
    return {f"{passage.text.split()[0]} of {len(passages)}" for passage in passages}


def write(writer: str, index: Path, encoder: Encoder) -> None:
    """Run the killed writer again."""
    old = [("f", Passage(str(row), f"old {row}")) for row in range(5)]
    new = [("f", Passage(str(row), f"new {row}")) for row in range(9)]
    match writer:
        case "build":
            build_index(new, index, encoder)
        case "update":
            update_index([*old[:3], *new[5:]], index, encoder)
        case "apply":
            puts = [("f", Change(passage.passage_id, passage)) for _, passage in new]
            apply_changes(puts, index, encoder)
        case "rollback":
            if live_texts(index, encoder) == {"old of 5"}:
                roll_back(index)
            else:
                collect_garbage(index, 1)  # it was done before the kill; the next writer cleans up
        case "gc":
            collect_garbage(index, 0)


AFTER = {
    "build": {"new of 9"},
    "update": {"old of 7", "new of 7"},
    "apply": {"new of 9"},
    "rollback": {"first of 3"},
    "gc": {"old of 5"},
}


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_after_a_kill_at_any_step_readers_see_the_old_or_the_new_and_a_rerun_succeeds(
    killed: dict[str, list[Path]], writer: str, tiny_encoder: Encoder
) -> None:
    indexes, seen = killed[writer], []
    for index in indexes:
        seen.append(live_texts(index, tiny_encoder))
        assert all(not listed.damage for listed in list_generations(index)), index

        write(writer, index, tiny_encoder)

        assert live_texts(index, tiny_encoder) == AFTER[writer], index
        hidden = [path.name for path in index.rglob(".*") if path.name != ".lock"]
        assert hidden == [], index
        assert current_name(index) in {listed.name for listed in list_generations(index)}
    assert len(indexes) > 5
    assert {frozenset(texts) for texts in seen} == {
        frozenset({"old of 5"}),
        frozenset(AFTER[writer]),
    }
