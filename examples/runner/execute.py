"""What the runner does with a job: a child process in a directory of its own."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path


async def execute(job, attempt):
    """Runs one attempt at a Python job, and returns what to report of its end.

    Cancelling it kills the job.
    """
    with tempfile.TemporaryDirectory() as place:
        inputs, result = Path(place, "inputs.json"), Path(place, "result.json")
        inputs.write_text(json.dumps(attempt["inputs"]))
        own = {"HOME": place, "MUSTER_INPUTS": str(inputs), "MUSTER_RESULT": str(result)}
        own |= {"PATH": os.environ["PATH"], "MUSTER_ATTEMPT": str(attempt["attempt"])}
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", job["script"], cwd=place, env=attempt["env_vars"] | own,
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(child.communicate(), job["timeout"] or None)
        except asyncio.TimeoutError:
            return {"status": "Error", "error": f"timed out after {job['timeout']} s"}
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
        values = json.loads(result.read_text()) if result.exists() else {}
    values = {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}
    values |= {"stdout": out.decode(errors="replace"), "exit_code": str(child.returncode)}
    if child.returncode == 0:
        return {"status": "Finished", "result": values}
    error = err.decode(errors="replace").strip().splitlines()[-1:]
    return {"status": "Error", "error": "".join(error) or "it failed", "result": values}
