"""`wofs umount`: unmount, and clean up after a server that died."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click


@click.command("umount")
@click.argument("directory", type=click.Path())
@click.option("-l", "--lazy", is_flag=True, help="Detach now, clean up when no longer in use.")
def command(directory: str, lazy: bool) -> None:
    """Unmount DIRECTORY, where wofs mounted an image."""
    program = "umount" if os.geteuid() == 0 else shutil.which("fusermount3") or "fusermount3"
    argv = [program] + ([] if program == "umount" else ["-u"]) + (["-l"] if lazy else [])
    if program != "umount" and lazy:
        argv = [program, "-u", "-z"]
    done = subprocess.run([*argv, "--", directory], capture_output=True, text=True, check=False)
    if done.returncode:
        click.echo(f"wofs: {done.stderr.strip() or 'unmounting failed'}", err=True)
        sys.exit(1)
