"""Verbs whose exit status for wrong usage is another than click's: mount(8)'s, fsck(8)'s."""

from __future__ import annotations

from typing import Any, ClassVar

import click


class StatusVerb(click.Command):
    """A verb that tells wrong usage by an error of its own, which has the exit status."""

    wrong_usage: ClassVar[type[click.UsageError]]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401
    ) -> click.Context:
        """Parse the arguments."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise self.wrong_usage(error.format_message(), error.ctx) from error
