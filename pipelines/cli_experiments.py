"""The commands on experiments: `experiment plan`, `assign`, `simulate` and `analyze`."""

from __future__ import annotations

import datetime
import gc
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from fairness_losses.errors import InvalidInputError
from pipelines.cli_app import EXPERIMENTS_PANEL, app, console, wide_console
from pipelines.config_file import load_settings

if TYPE_CHECKING:
    from pipelines.experiments.results import Sources
    from serving.experiments.config import Experiment

experiment = typer.Typer(
    help=(
        "Compares what arms serve: plans, assigns, simulates and analyses retrieval experiments."
        "\n\n"
        "Exit codes: 0 done, 2 an input or setting is wrong, 3 the arms do not have the users that "
        "they should have, a guardrail tripped, or was not shown to hold when the experiment was "
        "over."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(experiment, name="experiment", rich_help_panel=EXPERIMENTS_PANEL)

Definition = Annotated[
    pathlib.Path,
    typer.Option("--config", "-c", help="YAML of the experiment, see `configs/experiments/`."),
]
Lists = Annotated[
    str,
    typer.Option(
        "--lists",
        "-l",
        help="Parquet files of served lists, a glob: `user_id` (or a serving log's hash), "
        "`timestamp`, `arm`, `model_version`, `groups`, and `list_id` to tell repetitions.",
    ),
]
Outcomes = Annotated[
    str | None,
    typer.Option(
        "--outcomes",
        help="Files of outcomes: `user_id`, `timestamp`, the columns of the metrics, and "
        "`outcome_id` to tell repetitions.",
    ),
]
Users = Annotated[
    pathlib.Path | None,
    typer.Option("--users", help="Parquet of `user_id` and the columns of `slices`.", exists=True),
]
Salts = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--salts",
        help="Folder of the salts that a serving log's user ids are hashed with.",
        exists=True,
        file_okay=False,
    ),
]
Past = Annotated[
    datetime.datetime,
    typer.Option("--from", help="First moment (UTC) of the time before the experiment to look at."),
]


@experiment.command()
def plan(
    config: Definition,
    lists: Lists,
    daily_users: Annotated[
        float,
        typer.Option(
            "--daily-users", min=1, help="Eligible users who come for the first time, per day."
        ),
    ],
    since: Past,
    outcomes: Outcomes = None,
    users: Users = None,
    salts: Salts = None,
    out: Annotated[
        pathlib.Path | None, typer.Option("--out", "-o", help="Where to write the plan, JSON.")
    ] = None,
) -> None:
    """Says how many users and days the primary metric and every guardrail need.

    Looks at a log from before the experiment, as long as it will be, whatever its arms. The plan
    also keeps the definition's fingerprint, to which `analyze --plan` holds it.
    """
    from pipelines.experiments.observe import observe
    from pipelines.experiments.results import past_of, write_plan
    from serving.experiments.planning import plan as plan_of

    defined = _load(config)
    past = past_of(defined, _utc(since))
    sources = _sources(lists, outcomes, users, salts)
    seen, _ = observe(past, **vars(sources), replay=True)
    needs = plan_of(defined, seen, daily_users)
    table = Table("test", "users", "mean", "change", "power", "needed", "days", box=SIMPLE_HEAD)
    for need in needs:
        table.add_row(
            f"{need.metric}{f' of {need.group}' if need.group else ''}",
            f"{need.slice} {need.value}" if need.slice else "all",
            f"{need.mean:.4g}",
            f"{need.change:.1%}",
            f"{need.power:.0%}",
            f"{need.users:,}",
            f"{need.days:,}",
        )
    wide_console(110).print(table)
    days = max(need.days for need in needs)
    console.print(f"It is defined to last {defined.days} days; all of this takes {days}.")
    if out is not None:
        write_plan(defined, needs, out)


@experiment.command()
def assign(
    config: Annotated[
        list[pathlib.Path],
        typer.Option("--config", "-c", help="YAML of an experiment; give all that run at once."),
    ],
    user: Annotated[list[str] | None, typer.Argument(help="Ids of users.")] = None,
    users: Annotated[
        pathlib.Path | None,
        typer.Option("--users", help="Parquet with `user_id`, in place of ids.", exists=True),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option("--out", "-o", help="Parquet to write `user_id` and a column each to."),
    ] = None,
) -> None:
    """Prints which arms users are in, as services assign them.

    Also checks that experiments of one layer divide its buckets, and that no two share a salt.
    Eligibility is not looked at: it is of requests.
    """
    from pipelines.experiments.assigning import assign_users, read_user_ids
    from serving.experiments.assignment import check_layers

    defined = [_load(path) for path in config]
    check_layers(defined)
    if bool(user) == (users is not None):
        raise InvalidInputError("Give ids of users, or `--users` with a file of them.")
    ids = user or read_user_ids(users or pathlib.Path())
    if out is not None:
        from serving.whole_files import write_table

        out.parent.mkdir(parents=True, exist_ok=True)
        write_table(assign_users(defined, ids), out)
        return
    table = Table("user", *(each.name for each in defined), box=SIMPLE_HEAD)
    for row in assign_users(defined, ids).to_pylist():
        table.add_row(*("–" if value is None else value for value in row.values()))
    console.print(table)


@experiment.command()
def simulate(
    config: Definition,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Experiments to simulate.")] = 200,
    synthetic: Annotated[
        int, typer.Option("--synthetic-users", min=100, help="Users of each, without `--lists`.")
    ] = 5000,
    lists: Annotated[
        str | None, typer.Option("--lists", "-l", help="A log, whose users are assigned anew.")
    ] = None,
    since: Annotated[
        datetime.datetime | None,
        typer.Option("--from", help="First moment (UTC) of the log to look at."),
    ] = None,
    outcomes: Outcomes = None,
    users: Users = None,
    salts: Salts = None,
    lift: Annotated[
        float, typer.Option("--lift", help="Relative change of the primary metric to plant.")
    ] = 0.0,
    loss: Annotated[
        float, typer.Option("--loss", help="Relative loss of the guarded groups' exposure.")
    ] = 0.0,
    slice_: Annotated[
        str | None, typer.Option("--slice", help="Where it is lost: `gender=F`; else everywhere.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of synthetic users.")] = 0,
) -> None:
    """Simulates the experiment many times, with no effect or one that is known.

    Without an effect, about alpha of the experiments should be significant, and so be it with
    sequential looks on every day; `mismatch` and `tripped` should be rare. With `--lift` and
    `--loss`, it shows what is found. Users are synthetic, or those of a log (an A/A test of the
    metrics as they are).
    """
    from pipelines.experiments import populations
    from serving.experiments import simulation

    defined = _load(config)
    if lists is None:
        population = populations.synthetic(defined, synthetic, seed)
    else:
        log = _sources(lists, outcomes, users, salts)
        population = populations.of_a_log(defined, since and _utc(since), log)
    column, _, value = (slice_ or "").partition("=")
    planted = simulation.Planted(lift, loss, column or None, value or None)
    if column and column not in defined.slices:
        raise InvalidInputError(f"`--slice` should be of one of `slices`. Received: {slice_}.")
    gc.freeze()  # statsmodels collects garbage at every correction, which would take most of it.
    rates = simulation.simulate(defined, population, runs, planted)
    table = Table("of all experiments", "share", "95 % interval", box=SIMPLE_HEAD)
    for name, rate in rates.items():
        table.add_row(name, f"{rate.share:.2%}", f"{rate.low:.2%}–{rate.high:.2%}")
    console.print(table)


@experiment.command()
def analyze(
    config: Definition,
    lists: Lists,
    out: Annotated[
        pathlib.Path,
        typer.Option("--out", "-o", help="Folder for `experiment.json` and `experiment.html`."),
    ],
    outcomes: Outcomes = None,
    users: Users = None,
    salts: Salts = None,
    plan: Annotated[
        pathlib.Path | None,
        typer.Option("--plan", help="What `plan` wrote: the definition has to be the same."),
    ] = None,
    at: Annotated[
        datetime.datetime | None,
        typer.Option("--at", help="When it is looked at (UTC); now by default."),
    ] = None,
) -> None:
    """Analyses an experiment: the sample ratio first, then guardrails, then effects.

    Nothing is shown of an experiment whose arms do not have the users that they should have; and
    the effects of one with a fixed horizon are shown when it is over. Every row of the log is used
    or counted under the reason why it is not.
    """
    from pipelines.experiments import sentences
    from pipelines.experiments.results import check_plan, write_analysis
    from serving.experiments.verdict import exit_code

    defined = _load(config)
    if plan is not None:
        check_plan(defined, plan)
    moment = _utc(at) if at is not None else datetime.datetime.now(datetime.timezone.utc)
    result = write_analysis(defined, _sources(lists, outcomes, users, salts), moment, out)
    for decision in result["decisions"]:
        console.print(f"[bold]{sentences.outcome(result, decision)}[/bold]", highlight=False)
    console.print(sentences.lead(result), highlight=False)
    for sentence in (*sentences.findings(result), *sentences.warnings(result["counts"])):
        console.print(f"- {sentence}", highlight=False)
    console.print(f"\nResult: [bold]{out / 'experiment.html'}[/bold]")
    raise typer.Exit(exit_code(result))


def _load(path: pathlib.Path) -> Experiment:
    from serving.experiments.config import Experiment

    return load_settings(path, Experiment)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(tzinfo=datetime.timezone.utc)


def _sources(
    lists: str, outcomes: str | None, users: pathlib.Path | None, salts: pathlib.Path | None
) -> Sources:
    from pipelines.experiments.results import Sources

    return Sources(lists, outcomes, users, salts)
