"""`wofs corrupt`: copies of an image that are damaged on purpose, and the record of it."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from typing import Any, BinaryIO

import click

from wofs.cli import progress
from wofs.cli.output import Output, say
from wofs.cli.request import ended_tidily, logged
from wofs.corrupt import apply
from wofs.corrupt.damage import EDIT, Damage, Request
from wofs.corrupt.edit import Record
from wofs.corrupt.parts import KINDS
from wofs.device import FileDevice, open_device

NAMES = """\b
Names of structures and fields:
  sb[AGNO] agf[AGNO] agi[AGNO] agfl[AGNO]   headers: agf[2].freeblks=0, agi[0].unlinked[5]=7,
                                            agfl[1].bno[0]=max
  inobt[AGNO] finobt bnobt cntbt rmapbt refcountbt
                                            btrees: .block[N].numrecs, .rec[N].free
  inode[INO] or inode["/PATH"]              .di_size, .extent[N].startblock, .attrextent[N]...,
                                            .entry["NAME"].ino (namelen, name, ftype, tag)
  inode[...].dirdata[N]  .dirindex[N]  .dirfree[N]  .bmbt[N]  .attr[N]  .value[N]  .target[N]
                                            its blocks: .magicnum .crc .uuid .blkno .owner ...;
                                            attr[0].entry[3].hashval
  log[BLOCK]                                a record header in the internal log: log[0].cycle
  bytes[OFFSET:LENGTH]                      any bytes, in hex: bytes[0:4]=58465342
A wrong name is answered with those there are. Values: decimal, 0x, negative, max; for names and
labels "text" or hex."""


@click.command(
    "corrupt",
    epilog=NAMES + "\n\n\b\nExamples:\n"
    "  wofs corrupt disk.img bad.img agf[2].freeblks=0 --crc fix\n"
    "  wofs corrupt disk.img bad.img 'inode[\"/etc/hosts\"].extent[0].startblock=0'\n"
    "  wofs corrupt disk.img bad.img --flip 20 --in inode --seed 7 > done.json\n"
    "  wofs corrupt --undo done.json bad.img",
)
@click.argument("image")
@click.argument("rest", nargs=-1, metavar="[OUT] [NAME=VALUE]...")
@click.option("--crc", type=click.Choice(["fix", "stale"]), default="stale", show_default=True,
              help="Whether checksums are made right again after an edit.")  # fmt: skip
@click.option("--flip", type=click.IntRange(1), metavar="N", help="Flip N random bits.")
@click.option("--in", "within", multiple=True, metavar="NAME",
              help=f"Where to flip: a structure, or a kind: {', '.join(KINDS)}.")  # fmt: skip
@click.option("--zero", multiple=True, metavar="NAME", help="Zero a structure.")
@click.option("--swap", multiple=True, nargs=2, metavar="NAME NAME", help="Swap two structures.")
@click.option("--duplicate", multiple=True, nargs=2, metavar="NAME OVER",
              help="Store a copy of one structure over another.")  # fmt: skip
@click.option("--shift", multiple=True, nargs=2, type=(str, int), metavar="NAME BYTES",
              help="Move a structure's bytes within it.")  # fmt: skip
@click.option("--tear", multiple=True, nargs=2, type=(str, int), metavar="NAME SECTORS",
              help="Keep the first sectors of a structure, zero the rest.")  # fmt: skip
@click.option("--truncate", type=click.IntRange(0), metavar="BYTES", help="End the image there.")
@click.option("--seed", type=click.IntRange(0), help="Of what is random; one is chosen else.")
@click.option("--in-place", is_flag=True, help="Change IMAGE itself; there is no OUT then.")
@click.option("-f", "--force", is_flag=True, help="Replace OUT if it is there.")
@click.option("--undo", type=click.File("rb"), metavar="FILE",
              help="Take back, in IMAGE, what the record in FILE says was done.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no lines on stderr.")
def command(
    image: str,
    rest: tuple[str, ...],
    crc: str,
    seed: int | None,
    in_place: bool,
    force: bool,
    undo: BinaryIO | None,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Write a damaged copy of IMAGE to OUT, for tests of what reads it.

    IMAGE itself is never changed, unless with --in-place. The edits are made in this order:
    NAME=VALUE, swap, duplicate, shift, zero, tear, flip, truncate. What was done goes to
    standard output as one JSON object, with the bytes before and after: a record that a
    finding can be held against, and that --undo takes back.
    """
    told = (lambda text: None) if quiet else say
    if undo is not None:
        if rest:
            raise click.UsageError("--undo takes the image alone")
        for line in apply.flat(apply.undo(undo.read(), image)):
            told(f"undone: {line}")
        return
    if not in_place and (not rest or not rest[0] or "=" in rest[0]):
        raise click.UsageError("where to? give OUT, or --in-place")
    out, edits = (image, rest) if in_place else (rest[0], rest[1:])
    chosen = random.randrange(1 << 32) if seed is None else seed
    asked = Request(edits, crc, chosen, **options)
    if asked.nothing:
        raise click.UsageError("nothing to do: give NAME=VALUE, --flip or another edit")
    for edit in edits:
        if EDIT.fullmatch(edit) is None:
            raise click.UsageError(f"{edit}: an edit is NAME=VALUE")
    if asked.within and asked.flip is None:
        raise click.UsageError("--in goes with --flip")
    with logged(quiet, False), ended_tidily(), ExitStack() as stack:
        with progress.unpacking(quiet) as tell:
            device = open_device(image, progress=tell)
        stack.callback(device.close)
        assert isinstance(device, FileDevice)  # what open_device opens
        damage = stack.enter_context(Damage(device, asked))
        damage.do()
        record = Record(
            image, out, chosen, crc, (device.size, damage.editor.image.size),
            damage.editor.changes,
        )  # fmt: skip
        if in_place:
            apply.write_in_place(damage.editor, device, image)
            _tell(record)
        else:
            with (
                progress.counting("copying", quiet) as count,
                apply.copied(damage.editor, device, out, force, count),
            ):
                _tell(record)  # before the copy has its name: neither is had without the other
    for line in apply.flat(record.changes):
        told(line)
    if damage.editor.was_cut:
        told(f"truncate {record.size[0]} -> {record.size[1]} bytes")


def _tell(record: Record) -> None:
    """Write the record to standard output."""
    output = Output()
    output.raw(json.dumps(record.as_json()).encode() + b"\n")
    output.flush()
