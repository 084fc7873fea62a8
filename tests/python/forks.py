"""Python code in processes of its own, which begin with torch imported and nothing else: children of one process, as importing torch takes
more than a second."""

import json
import subprocess
import sys

SERVER = """
import json, os, sys, traceback
import torch
for line in sys.stdin:
    code, out = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(1, 2)
        try:
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Torch:
    """One process that has imported torch, and has children."""

    def __init__(self, folder):
        self.out, self.process = folder / "printed", None

    def run(self, code):
        """What the code printed; it must end well."""
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, "-c", SERVER], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps([code, str(self.out)]) + "\n")
        self.process.stdin.flush()
        status, printed = self.process.stdout.readline().strip(), self.out.read_text()
        assert status == "0", f"exit status {status}\n{printed}"
        return printed

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
