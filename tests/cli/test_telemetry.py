"""No runtime tells its makers that it runs here, unless somebody wants that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
sys.argv = ["onnx-oto", "--version"]
from onnx_oto.cli import main
try:
    main()
except SystemExit:
    pass
from onnx_oto.runtime.limits import Allowance
from onnx_oto.runtime.worker import shared
print(os.environ["ORT_DISABLE_TELEMETRY"], shared().call(Allowance(1e12, 60.0), os.getenv, "ORT_DISABLE_TELEMETRY"))
"""


@pytest.mark.parametrize("said", [None, "0"])
def test_telemetry_is_off_by_default(said):
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{said or 1} {said or 1}"
