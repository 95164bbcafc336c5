"""Validates an RO-Crate with the packages `roc-validator` and `rocrate`, without the network.

Usage: validate.py FOLDER [SEVERITY]

The JSON-LD contexts come from the package `rocrate`, whose context contains all terms of RO-Crate
1.1, and from below. Every other request fails. Exits with 0 if the crate meets all requirements of
the severity (by default REQUIRED), with 1 and a list if not, and with 77 if a package is missing.
"""

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

try:
    from rocrate_validator import models, services
    from rocrate_validator.utils import http

    rocrate = Path(find_spec("rocrate").origin).parent
except (ImportError, AttributeError) as error:
    print(f"{error}: install `roc-validator` and `rocrate`")
    sys.exit(77)

TERMS = "https://w3id.org/ro/terms/workflow-run"
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": json.loads(
        (rocrate / "data/ro-crate.jsonld").read_text()
    ),
    f"{TERMS}/context": {"@context": {"environment": f"{TERMS}#environment"}},
}


class Response:
    """The part of a response that the validator uses."""

    status_code = 200
    headers = {"Content-Type": "application/ld+json"}
    url = None

    def __init__(self, content):
        self.content = json.dumps(content).encode()
        self.text = self.content.decode()

    def json(self):
        return json.loads(self.content)

    def raise_for_status(self):
        pass


def get(_, url, **__):
    """Answers a request for a context."""
    if str(url) not in CONTEXTS:
        raise ConnectionError(f"the validator requested {url}")
    return Response(CONTEXTS[str(url)])


folder, severity = sys.argv[1], (sys.argv[2:] or ["REQUIRED"])[0]
with mock.patch.object(http.HttpRequester, "get", get, create=True):
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier="process-run-crate-0.5",
        requirement_severity=getattr(models.Severity, severity),
    )
    result = services.validate(settings)
print(f"roc-validator {version('roc-validator')}, rocrate {version('rocrate')}")
for issue in result.get_issues():
    print(f"{issue.severity.name}: {issue.check.identifier}: {issue.message}")
sys.exit(1 if result.has_issues() else 0)
