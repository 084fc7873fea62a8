"""What the figures of a GPU belong to."""
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def commit():
    return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()


def gpu_facts():
    """Names, and clocks as they are now."""
    query = "name,driver_version,clocks.sm,clocks.mem"
    answer = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"], capture_output=True, text=True).stdout
    gpu, driver, sm, memory = [word.strip() for word in (answer.splitlines() or ["unknown,unknown,0,0"])[0].split(",")]
    return dict(gpu=gpu, driver=driver, sm_mhz=int(sm), memory_mhz=int(memory))
