"""What `make run` does: a first server with one tenant, one key and one bucket, kept in ./var.

The first run formats a directory of volumes and creates tenant, key and bucket; later runs find
them. The key stays in `var/demo-key.json`, readable by its owner only. Standard library only; the
appliance itself is driven by its command line, as any operator would.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
TENANT = "demo"
BUCKET = "backups"
REGION = "us-east-1"
KEY_FIELDS = ("access_key_id", "secret_access_key")


class DemoFailed(Exception):
    """A command did not do what the demonstration needs; the message is for the user."""


def thermocline(*arguments: str) -> str:
    """Runs an admin command to its end and returns what it printed."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "appliance", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed(f"thermocline {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def initialise(var: Path) -> None:
    """Writes settings, keys and catalog and formats two volumes, on the first run only.

    Later ones bring the catalog up to the program, which may be a newer one by then.
    """
    if find_config(var).exists():
        thermocline("catalog", "upgrade", "--config", str(find_config(var)))
        return
    var.mkdir(mode=0o700, exist_ok=True)
    volumes = []
    for tier in ("ssd", "hdd"):
        (var / tier).mkdir(exist_ok=True)
        volumes += ["--volume", f"{tier}={var / tier}"]
    thermocline("init", "--data", str(var), *volumes)


def find_config(var: Path) -> Path:
    """The settings file that `init` writes."""
    return var / "thermocline.toml"


def load_key(var: Path) -> dict[str, str]:
    """The demonstration key; creates tenant, key and bucket where they are missing."""
    key_file = var / "demo-key.json"

    def admin(*arguments: str) -> str:
        return thermocline("--socket", str(var / "admin.sock"), *arguments)

    names = {entry["name"] for entry in json.loads(admin("tenant", "list", "--json"))["tenants"]}
    if TENANT not in names:
        admin("tenant", "create", TENANT)
    if not key_file.exists():
        printed = json.loads(admin("key", "create", "--tenant", TENANT, "--json"))
        descriptor = os.open(key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({name: printed[name] for name in KEY_FIELDS}, file)
    buckets = json.loads(admin("bucket", "list", "--tenant", TENANT, "--json"))["buckets"]
    if BUCKET not in {entry["name"] for entry in buckets}:
        admin("bucket", "create", f"{TENANT}/{BUCKET}")
    loaded = json.loads(key_file.read_text())
    return {name: str(loaded[name]) for name in KEY_FIELDS}


def describe(endpoint: str, key: dict[str, str], *, var: Path) -> str:
    """What a user pastes to reach the server with each client."""
    key_id, secret = (key[name] for name in KEY_FIELDS)
    return f"""
Thermocline serves S3. Data and settings are in {var}; Ctrl-C stops it, `make run` starts it again.

  endpoint           {endpoint}
  access key id      {key_id}
  secret access key  {secret}
  bucket             {BUCKET}

Paste into another terminal, for aws and restic:

  export AWS_ACCESS_KEY_ID={key_id}
  export AWS_SECRET_ACCESS_KEY={secret}
  export AWS_DEFAULT_REGION={REGION}
  export AWS_ENDPOINT_URL={endpoint}

aws
  aws s3 cp README.md s3://{BUCKET}/
  aws s3 ls s3://{BUCKET}/

rclone
  rclone config create {TENANT} s3 provider=Other endpoint={endpoint} region={REGION} \\
      access_key_id={key_id} secret_access_key={secret}
  rclone copy docs {TENANT}:{BUCKET}/docs
  rclone check docs {TENANT}:{BUCKET}/docs --download

restic
  export RESTIC_PASSWORD=choose-your-own RESTIC_REPOSITORY=s3:{endpoint}/{BUCKET}/restic
  restic init
  restic backup docs
"""


def find_endpoint(line: str) -> str:
    """The S3 address of the ready line."""
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    if not line.startswith("ready ") or "s3" not in words:
        raise DemoFailed(f"the server did not come up: {line!r}")
    return words["s3"].split(",")[0]


def main() -> int:
    """Starts the server in the foreground; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="where the data is kept")
    var: Path = parser.parse_args().var.resolve()
    try:
        initialise(var)
    except DemoFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    server = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "appliance", "serve", "--config", str(find_config(var))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Ctrl-C reaches the server by itself; this process waits for it to end in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        assert server.stdout is not None
        endpoint = find_endpoint(server.stdout.readline())
        print(describe(endpoint, load_key(var), var=var), flush=True)
    except DemoFailed as failed:
        print(failed, file=sys.stderr)
        server.terminate()
        server.wait()
        return 1
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
