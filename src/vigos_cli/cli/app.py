"""The commands and their flags, by Typer. Nothing heavy is imported before a command runs.

vigos distill model=qwen2vl loss=reverse_kl
vigos distill -m routing=vigos,opsd_structured seed=1,2,3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

app = typer.Typer(
    help="Visually grounded on-policy self-distillation of vision-language models.",
    epilog="Every command runs offline on an embedded default; `vigos COMMAND --help` lists what it takes.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class Command(TyperCommand):
    """A command whose help ends with its configuration, and whose `--info` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare `--info` the value that Hydra gives it."""
        if "--info" in args:
            at = args.index("--info") + 1
            if at == len(args) or args[at] not in INFO:
                args = [*args[:at], "all", *args[at:]]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's help, then the groups, options and defaults."""
        super().format_help(ctx, formatter)
        from vigos_cli.cli.explain import print_groups

        print_groups(str(ctx.info_name))


def _complete(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    from vigos_cli.cli.completion import complete

    return complete(str(ctx.info_name), incomplete)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=_complete,
        metavar="[OVERRIDES]...",
        help="Options of groups (model=qwen2vl), keys (trainer.lr=1e-4), +experiment=NAME; with -m, lists "
        "to sweep (seed=1,2,3).",
    ),
]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Run every combination of the listed values.")
]
Cfg = Annotated[
    Literal["job", "hydra", "all"] | None,
    typer.Option("--cfg", "-c", help="Show the composed configuration and stop."),
]
Package = Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: show only this part.")]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: fill in interpolations.")]
Info = Annotated[
    Literal["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"] | None,
    typer.Option("--info", help="Show what Hydra found and where, and stop; `all` when no value follows."),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="A folder with options of your own, such as routing/mine.yaml."),
]


def _register(name: str, summary: str) -> Callable[..., int]:
    """Add the command `name`; all commands take the same flags."""

    def command(
        overrides: Overrides = None,
        multirun: Multirun = False,
        cfg: Cfg = None,
        package: Package = None,
        resolve: Resolve = False,
        info: Info = None,
        config_dir: ConfigDir = None,
    ) -> int:
        from vigos_cli.cli.launch import Flags, launch

        return launch(name, overrides or [], Flags(multirun, cfg, package, resolve, info, config_dir))

    return app.command(name, cls=Command, help=summary)(command)


_register("rollout", "Sample from a model or an adapter, parse, and show what it wrote.")
_register("distill", "Distil a student from its own rollouts under better-informed teachers.")
_register("eval", "Measure a model, an adapter, or saved responses.")
_register("ablate", "Compare routings, losses and controls over seeds, in one report.")
_register("merge", "Write one full model from a base and an adapter.")
