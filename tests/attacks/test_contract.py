"""Schemathesis checks the server against its OpenAPI document, with valid and invalid requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig

from service.api.openapi import set_maxima
from tests.attacks import hooks
from tests.attacks.victim import Victim

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "service" / "api" / "openapi.json"
EXAMPLES = os.environ.get("TEST_EXAMPLES", "60")  # of each operation and phase
CONFIG = Path(__file__).with_name("schemathesis.toml")
MAXIMA = {"dimensions": 32, "timeout_ms": hooks.LONGEST_MS}
document = json.loads(DOCUMENT.read_text())
set_maxima(document, MAXIMA)
schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_path(CONFIG))


@schema.parametrize()
@settings(
    max_examples=6,  # the command below makes many
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_conforms_to_the_document(
    case: schemathesis.Case, victim_process: Victim
) -> None:
    """Statuses, media types, schemas and headers match, and invalid requests are refused."""
    case.call_and_validate(base_url=f"http://127.0.0.1:{victim_process.port}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_requests_by_the_document_find_no_error(victim: Victim, tmp_path: Path) -> None:
    """The same by schemathesis' command and the document as served: every check and phase."""
    url = f"http://127.0.0.1:{victim.port}"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)]
    command += ["run", f"{url}/openapi.json", "--url", url]
    command += ["--checks", "all", "--max-examples", EXAMPLES, "--continue-on-failure"]
    command += ["--mode", "all", "--no-color", "--seed", "7", "--workers", "1"]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    sys.stdout.write(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
