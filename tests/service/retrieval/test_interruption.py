"""Each case is a process that sends a signal to itself at the point that the case names."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import run_script

# One process each: the second signal takes the same way, and has its turn among the slow tests.
EXIT_CODES = [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.slow)]

# `start(NAME)` sends the signal when the module NAME is imported; `hang()` is a call into C that
# neither returns nor lets Python run a handler in this thread.
PREAMBLE = """
import hashlib, importlib.abc, os, pathlib, signal, sys, threading
from service.retrieval import interruption
number = getattr(signal, sys.argv.pop(1))

class SignalOnImport(importlib.abc.MetaPathFinder):
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, path, target=None):
        if name == self.name:
            os.kill(os.getpid(), number)

def signal_at_import(name):
    sys.meta_path.insert(0, SignalOnImport(name))

def hang():
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES)
@pytest.mark.parametrize(
    ("program", "module", "arguments"),
    [
        ("service", "service.cli.main", []),
        ("service", "typer", ["--help"]),
        ("service", "pydantic", ["index", "list"]),
        ("service", "torch", ["search", "tea", "--index", "/nowhere"]),
        ("service", "uvicorn", ["serve", "--index", "/nowhere"]),
        ("trainer", "trainer.cli.main", []),
    ],
)
def test_a_signal_during_imports_ends_every_program_in_one_line(
    program: str, module: str, arguments: list[str], name: str, exit_code: int
) -> None:
    done = run_script(
        f"{PREAMBLE}\nsignal_at_import('{module}')\nfrom {program}.__main__ import main; main()",
        name,
        *arguments,
    )

    assert (done.returncode, done.stdout) == (exit_code, "")
    lines = done.stderr.splitlines(keepends=True)
    if module == "uvicorn":  # the port answers before the imports
        assert "listening on" in lines.pop(0)
    assert lines == ["error: interrupted\n"]


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES)
def test_a_signal_to_process_1_of_a_container_ends_it(name: str, exit_code: int) -> None:
    """The kernel drops a signal to PID 1 that has no handler."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs the right to make a PID namespace")
    source = "assert os.getpid() == 1\nsignal_at_import('typer')\nfrom service.__main__ import main"

    done = run_script(
        f"import subprocess, sys; sys.exit(subprocess.run([*{unshare}, sys.executable, '-c', "
        f"{PREAMBLE + source + chr(10) + 'main()'!r}, *sys.argv[1:]]).returncode)",
        name,
    )

    assert (done.returncode, done.stderr) == (exit_code, "error: interrupted\n")


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES)
def test_a_signal_unwinds_the_command_and_says_what_is_kept(name: str, exit_code: int) -> None:
    done = run_script(
        f"""{PREAMBLE}
interruption.listen()
with interruption.unwinding(), interruption.reporting("interrupted: A is kept"):
    try:
        os.kill(os.getpid(), number)
        print("not reached")
    finally:
        print("cleaned up", flush=True)
""",
        name,
    )

    assert (done.returncode, done.stdout) == (exit_code, "cleaned up\n")
    assert done.stderr == "error: interrupted: A is kept\n"


@pytest.mark.parametrize("raised", ["ImportError", "SystemExit", "KeyboardInterrupt"])
def test_a_library_that_changes_the_exception_changes_neither_line_nor_exit_code(
    raised: str,
) -> None:
    done = run_script(
        f"""{PREAMBLE}
interruption.listen()
with interruption.unwinding():
    try:
        os.kill(os.getpid(), number)
    except BaseException:
        raise {raised}("of a library") from None
""",
        "SIGTERM",
    )

    assert (done.returncode, done.stderr) == (143, "error: interrupted\n")


def test_a_signal_during_a_long_call_into_c_ends_the_process_and_removes_temporary_folders(
    tmp_path: Path,
) -> None:
    done = run_script(
        f"""{PREAMBLE}
from service.retrieval.storage import artifact
interruption.listen()
with (
    interruption.unwinding(),
    interruption.reporting("interrupted: B is kept"),
    artifact.temporary_directory(pathlib.Path(sys.argv[1]), "temporary-") as directory,
):
    (directory / "half").write_text("written")
    hang()
""",
        "SIGTERM",
        tmp_path,
    )

    assert (done.returncode, done.stderr) == (143, "error: interrupted: B is kept\n")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_still_run_do_not_delay_the_end() -> None:
    done = run_script(
        f"""{PREAMBLE}
from concurrent.futures import ThreadPoolExecutor
interruption.listen()
with interruption.unwinding(), ThreadPoolExecutor(1) as executor:
    executor.submit(threading.Event().wait)
    os.kill(os.getpid(), number)
""",
        "SIGTERM",
    )

    assert (done.returncode, done.stderr) == (143, "error: interrupted\n")


def test_without_a_signal_nothing_changes() -> None:
    done = run_script(
        f"""{PREAMBLE}
interruption.listen()
with interruption.unwinding(), interruption.reporting("interrupted: C is kept"):
    print("done")
sys.exit(3)
""",
        "SIGTERM",
    )

    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES)
def test_a_deferred_signal_ends_the_process_after_the_block(name: str, exit_code: int) -> None:
    done = run_script(
        f"""{PREAMBLE}
import time
interruption.listen()
with interruption.unwinding(), interruption.reporting("interrupted: D is kept"):
    with interruption.deferring() as is_asked:
        print(is_asked())
        os.kill(os.getpid(), number)
        time.sleep(1)  # longer than a signal may unwind
        print(is_asked(), flush=True)
    print("not reached")
""",
        name,
    )

    assert (done.returncode, done.stdout) == (exit_code, "False\nTrue\n")
    assert done.stderr == "error: interrupted: D is kept\n"


def test_a_second_signal_is_not_deferred() -> None:
    done = run_script(
        f"""{PREAMBLE}
interruption.listen()
with interruption.unwinding(), interruption.deferring():
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    hang()
""",
        "SIGTERM",
    )

    assert (done.returncode, done.stderr) == (143, "error: interrupted\n")


def test_a_signal_where_python_passes_nothing_on_prints_no_traceback() -> None:
    # A callback of a weak reference, such as importlib's.
    done = run_script(
        PREAMBLE
        + """
import weakref
class Kept: pass
kept = Kept()
def die(_):
    os.kill(os.getpid(), number)
    for _ in range(10_000): pass
interruption.listen()
with interruption.unwinding():
    reference = weakref.ref(kept, die)
    del kept
    hang()
""",
        "SIGTERM",
    )

    assert (done.returncode, done.stderr) == (143, "error: interrupted\n")
