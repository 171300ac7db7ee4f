"""`wofs umount`: unmount, wait until the server is gone, clear what a dead one left."""

from __future__ import annotations

import click

from wofs.cli.mount import EXIT_FAILED, EXIT_USAGE, SystemVerb
from wofs.cli.output import say
from wofs.errors import MountError
from wofs.fuse.mountpoint import Refused, unmount


@click.command("umount", cls=SystemVerb)
@click.argument("directory", type=click.Path(readable=False))  # a dead mount is not readable
@click.option("-l", "--lazy", is_flag=True, help="Detach now; it ends when nobody uses it.")
def command(directory: str, lazy: bool) -> int:
    """Unmount what wofs mounted at DIRECTORY.

    Returns when its server has closed the image, unless the mount lives on elsewhere: bound to
    a second place, or in another mount namespace. Exit status as umount(8): 0 unmounted, 1 not
    allowed, 32 failed.
    """
    try:
        if not unmount(directory, lazy) and not lazy:
            say(f"{directory}: unmounted; its server goes on, the mount shows elsewhere too")
    except MountError as error:
        say(str(error))
        return EXIT_USAGE if isinstance(error, Refused) else EXIT_FAILED
    return 0
