"""The client works where Airflow cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_provider_stability.simulator import Simulator

# None in sys.modules makes an import fail as if the package were not installed.
PROGRAM = """
import json, sys
sys.modules["airflow"] = None
from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import AuthenticationError

def ask(key):
    settings = Settings.parse("c", password=key, host=sys.argv[1], extra={"organization": "org-b"})
    client = StabilityClient(settings)
    try:
        found = {"account": client.get_account().id, "credits": client.get_balance().credits}
        return found | {"engines": client.run("/v1/engines/list").status_code}
    except AuthenticationError as error:
        return error.status_code
    finally:
        client.close()

answers = [ask(sys.argv[2]), ask("sk-wrong")]
assert [name for name in sys.modules if name.startswith("airflow.")] == []
print(json.dumps(answers))
"""


def test_api_works_where_airflow_cannot_be_imported() -> None:
    with Simulator(organizations={"org-b": 60.0}) as simulator:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, simulator.base_url, simulator.api_key],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [{"account": "user-1234", "credits": 60.0, "engines": 200}, 401]
        assert [each.status for each in simulator.requests] == [200, 200, 200, 401]
