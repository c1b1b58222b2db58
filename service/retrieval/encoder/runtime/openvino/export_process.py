"""Export of a graph in a process of its own, whose memory is free again when it ends."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.errors import CheckpointError, RetrievalError

MODULE = "service.retrieval.encoder.runtime.openvino.export_process"


def export_in_own_process(directory: Path, layout: CheckpointLayout) -> str:
    """Run `export_graph` in another process, which ends with this one.

    Returns:
        The name of the embedding table's tensor in the checkpoint.

    Raises:
        CheckpointError: the architecture cannot be exported, or the process died.
        OSError: the files cannot be written.
    """
    search_path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            env=os.environ | {"PYTHONPATH": search_path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin and process.stdout
        process.stdin.write(pickle.dumps((directory, layout)))
        process.stdin.flush()  # but not closed: its end means that this process has died
        answer = process.stdout.read()
        process.stdin.close()
        code = process.wait()
        errors.seek(0)
        last_words = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    if not answer:
        raise CheckpointError(
            f"the process that makes the graph of {layout.transformer} died (exit status {code}"
            f"{', perhaps for lack of memory' if code == -9 else ''}"
            f"{': ' + last_words if last_words else ''}): set CLEAR_CPU_ENGINE=torch, or give the "
            "machine more memory"
        )
    table, error, number = json.loads(answer)
    if number:
        raise OSError(number, error)
    if error:
        raise CheckpointError(error)
    return str(table)


def _run() -> None:
    """Export the graph that standard input describes; answer on standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    directory, layout = pickle.load(sys.stdin.buffer)  # noqa: S301  of the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from service.retrieval.encoder.runtime.openvino.export import export_graph

    table, reason, number = "", "", 0
    try:
        table = export_graph(directory, layout)
    except RetrievalError as error:
        reason = str(error)
    except OSError as error:
        reason, number = error.strerror or str(error), error.errno or 0
    answer.write(json.dumps([table, reason, number]))
    answer.close()
    os._exit(0)  # a large model takes long to take apart


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    _run()
