"""Verbs whose exit status for wrong usage is another than click's: mount(8)'s, fsck(8)'s."""

from __future__ import annotations

from typing import Any, ClassVar

import click


class WrongUsage(click.UsageError):
    """Wrong usage, with the exit status of the verb."""

    def __init__(self, error: click.UsageError, status: int) -> None:
        super().__init__(error.format_message(), error.ctx)
        self.exit_code = status


class StatusVerb(click.Command):
    """A verb that ends with `usage_status` where it is called wrongly."""

    usage_status: ClassVar[int]

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
            raise WrongUsage(error, self.usage_status) from error
