"""A private PostgreSQL: one server a test session, one database a test. Needs Debian's package `postgresql`, not a running service."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

BINARIES = "/usr/lib/postgresql/*/bin"
USER = "gannet"
# Nothing here outlives its test, so nothing waits for the disk.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=60")


class PostgresServer:
    """One server on a socket of its own."""

    def __init__(self) -> None:
        """Makes and starts it.

        Raises:
            RuntimeError: PostgreSQL is not installed.
        """
        self._binaries = _binaries()
        # The socket's path has at most 107 bytes, and the server's user must be able to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="gannet-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        data = self.folder / "data"
        data.mkdir()
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            for folder in (self.folder, data):
                os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as_user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        self._run("initdb", "--pgdata", str(data), "--username", USER, "--auth=trust", "--encoding=UTF8", "--no-sync")
        settings = [option for setting in OPTIONS for option in ("-c", setting)]
        self._process = subprocess.Popen(
            [*self._as_user, str(self._binaries / "postgres"), "-D", str(data), "-k", str(self.folder), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        self._run("pg_isready", "--host", str(self.folder), "--timeout=60", tries=600)

    def database(self, template: str = "template0") -> str:
        """The URL of a new database, a copy of `template`."""
        name = f"t{uuid.uuid4().hex[:16]}"
        self._run("createdb", "--host", str(self.folder), "--username", USER, f"--template={template}", name)
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def stop(self) -> None:
        """End it and remove its files."""
        self._process.terminate()
        self._process.wait(timeout=30)
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str, tries: int = 1) -> None:
        command = [*self._as_user, str(self._binaries / program), *arguments]
        for _ in range(tries):
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
            if done.returncode == 0:
                return
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def _binaries() -> Path:
    for folder in sorted(Path("/").glob(BINARIES.lstrip("/")), reverse=True):
        if (folder / "initdb").exists():
            return folder
    raise RuntimeError("the tests of the ledger need PostgreSQL's programs (Debian: apt-get install postgresql)")
