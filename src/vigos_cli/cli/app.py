"""The Typer commands and their flags; slow imports wait until a command runs.

vigos distill model=qwen2vl loss=reverse_kl
vigos distill -m routing=vigos,opsd_structured seed=1,2,3
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

app = typer.Typer(
    help="Visually grounded on-policy self-distillation of vision-language models.",
    epilog="Without arguments, every command runs offline with the small model in the package. "
    "`vigos COMMAND --help` lists the keys and groups of a command.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class Command(TyperCommand):
    """A command that shows its configuration in its help and accepts `--info` without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace `--info` without a value by `--info all`, as Hydra does."""
        if "--info" in args:
            at = args.index("--info") + 1
            if at == len(args) or args[at] not in INFO:
                args = [*args[:at], "all", *args[at:]]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write Typer's help, then the groups with their options and defaults."""
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
        help="Options of groups (model=qwen2vl), values of keys (trainer.lr=1e-4), +experiment=NAME; with -m "
        "also lists of values (seed=1,2,3).",
    ),
]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Run all combinations of the listed values.")
]
Cfg = Annotated[
    Literal["job", "hydra", "all"] | None,
    typer.Option("--cfg", "-c", help="Print the composed configuration and exit."),
]
Package = Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: print only this part.")]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: resolve interpolations.")]
Info = Annotated[
    Literal["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"] | None,
    typer.Option("--info", help="Print Hydra's diagnostics and exit; without a value: all of them."),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="A folder with your own options, such as routing/mine.yaml."),
]


def _register(name: str, summary: str) -> Callable[..., int]:
    """Add the command `name`; all commands have the same flags."""

    def command(
        overrides: Overrides = None,
        multirun: Multirun = False,
        cfg: Cfg = None,
        package: Package = None,
        resolve: Resolve = False,
        info: Info = None,
        config_dir: ConfigDir = None,
    ) -> int:
        try:  # the imports of Hydra take a second, and Typer says nothing about a Ctrl-C
            from vigos_cli.cli.launch import Flags, launch
        except KeyboardInterrupt:
            print("vigos: interrupted", file=sys.stderr)
            return 130
        return launch(name, overrides or [], Flags(multirun, cfg, package, resolve, info, config_dir))

    return app.command(name, cls=Command, help=summary)(command)


_register("rollout", "Sample from a model or an adapter on a data set, parse and show the rollouts.")
_register("distill", "Train a student on its own rollouts, supervised by better-informed teachers.")
_register("eval", "Evaluate a model, an adapter or saved responses on benchmarks.")
_register("ablate", "Compare routings, losses and controls over several seeds, in one report.")
_register("merge", "Merge an adapter into its base model and write the full model.")
