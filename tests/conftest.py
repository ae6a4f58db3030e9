"""For all tests: one thread, the same Hypothesis examples at every run; a database."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# The ordinary run is the same everywhere; `make fuzz` asks for --hypothesis-profile=random.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, derandomize=False)
settings.register_profile("many", deadline=None, derandomize=True, max_examples=2000)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def postgres_url():
    """URL of an empty PostgreSQL on loopback, started for this session by Debian's own binaries."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql (Debian: postgresql)")
    programs = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="etastar-postgres-"))
    # the server refuses to run as root
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "etastar", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        options = ["-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder]
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            probe = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            for _ in range(600):
                if subprocess.run(probe, check=False).returncode == 0:
                    break
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield f"postgresql+psycopg2://etastar@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # the fast shutdown, which waits for no client
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
