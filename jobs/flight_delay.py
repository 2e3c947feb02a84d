"""How late will a flight leave New York? Told at the start of the hour in which it is scheduled.

    runner submit flight_delay

Flights and weather -> joined by Ray Data with what was known by then -> features -> a network that minimises the mean
absolute error -> that error on the months from October on, beside a carrier-hour mean and a linear model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from runner import Job, Prep, Train

if TYPE_CHECKING:  # so that `runner submit` and the preparation load neither torch nor Ray
    import ray.data

    from models.baselines import Baselines
    from runner import TrainContext


@dataclass(frozen=True)
class Config:
    held_out_from: int = 10  # the first month that is held out
    width: int = 128
    dropout: float = 0.1
    epochs: int = 4
    global_batch_size: int = 512
    lr: float = 3e-3


# -- preparation: what is known at the start of the scheduled hour ---------------------------------------------------

SCHEDULE = ["flight_id", "year", "month", "day", "hour", "minute", "carrier", "origin", "distance"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
PARTITIONS = 4  # of the group-bys; Ray's own 200 take three times as long for so small a table


def join(data: dict[str, ray.data.Dataset], config: Config) -> ray.data.Dataset:
    """Each flight's schedule and delay, and three facts about its airport at its scheduled hour.

    - planned_departures in that hour, which the timetable says;
    - recent_departures and recent_delay: of the flights that had left by its start, but not an hour earlier;
    - the weather that was observed in the hour before.

    Facts are small, 20,000 rows, so they are sent to where the flights are instead of shuffling those.
    """
    from ray.data.aggregate import Count, Mean

    flights = data["flights"].map_batches(with_hours, batch_format="pyarrow").materialize()
    by_hour = flights.groupby(["origin", "at"], PARTITIONS)
    planned = by_hour.aggregate(Count(alias_name="planned_departures"))
    left = flights.map_batches(only_departed, batch_format="pyarrow")
    recent = left.groupby(["origin", "left_by"], PARTITIONS).aggregate(
        Count(alias_name="recent_departures"), Mean("dep_delay", alias_name="recent_delay")
    )
    known = whole(planned).join(whole(recent.rename_columns({"left_by": "at"})), ["origin", "at"])
    known = known.join(weather_before(whole(data["weather"])), ["origin", "at"])
    return flights.map_batches(attach, batch_format="pyarrow", fn_kwargs={"known": known})


def with_hours(flights: pa.Table) -> pa.Table:
    """The schedule, the delay, and two hours, counted from 1970: `at`, the scheduled one, and `left_by`: the first at
    whose start the flight had left. That is later than `at` even for one that leaves early, so that no flight is among
    the recent ones of its own hour.
    """
    import pyarrow.compute as pc

    at = hours(flights["time_hour"])
    minutes = pc.add(flights["minute"], pc.max_element_wise(flights["dep_delay"], 0, skip_nulls=False))
    left_by = pc.add(at, pc.cast(pc.add(pc.divide(minutes, 60), 1), pa.int32()))
    kept = flights.select([*SCHEDULE, "dep_delay"])
    return kept.append_column("at", at).append_column("left_by", left_by)


def only_departed(flights: pa.Table) -> pa.Table:
    """Without those that were cancelled."""
    return flights.filter(flights["dep_delay"].is_valid()).select(["origin", "left_by", "dep_delay"])


def weather_before(weather: pa.Table) -> pa.Table:
    """Observations, keyed by the hour after them."""
    import pyarrow.compute as pc

    after = pc.add(hours(weather["time_hour"]), pa.scalar(1, pa.int32()))
    return weather.select(["origin", *WEATHER]).append_column("at", after)


def hours(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Points in time as int32 numbers of whole hours since 1970."""
    import pyarrow.compute as pc

    seconds = times.cast(pa.timestamp("s", "UTC")).cast(pa.int64())
    return pc.divide(seconds, 3600).cast(pa.int32())


def attach(flights: pa.Table, known: pa.Table) -> pa.Table:
    """Flights with the columns of `known`, null where nothing is known."""
    return flights.drop_columns(["left_by"]).join(known, ["origin", "at"])


def whole(dataset: ray.data.Dataset) -> pa.Table:
    """The rows of a small dataset; strings as Arrow's ordinary strings."""
    table = pa.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    return table.set_column(table.schema.get_field_index("origin"), "origin", table["origin"].cast(pa.string()))


# -- preparation: features -------------------------------------------------------------------------------------------

CARRIERS = np.array(["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"])
ORIGINS = np.array(["EWR", "JFK", "LGA"])
SIZES = (len(CARRIERS), 24, len(ORIGINS), 7)  # of the categories: carrier, hour, origin, weekday
#: Numbers, with a usual value, which stands for a missing one, and a usual distance from it.
NUMBERS = {
    "minute_of_day": (800, 300), "distance": (1000, 700), "planned_departures": (20, 8),
    "recent_departures": (18, 8), "recent_delay": (10, 30),
    "temp": (55, 18), "dewp": (40, 19), "humid": (60, 20), "wind_east": (0, 8), "wind_north": (0, 8),
    "wind_speed": (10, 6), "wind_gust": (0, 20), "precip": (0, 0.03), "pressure": (1017, 8), "visib": (10, 2),
}  # fmt: skip


def departed(rows: dict[str, np.ndarray], config: Config) -> np.ndarray:
    """Which flights left; cancelled ones have no delay to predict."""
    return ~np.isnan(rows["dep_delay"].astype("float64"))


def features(rows: dict[str, np.ndarray], config: Config) -> dict[str, Any]:
    """Categories [rows, 4] and numbers [rows, 15]; the delay in minutes. The last months are held out."""
    date = (rows["year"] - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (rows["month"] - 1)
    weekday = (date.astype("datetime64[D]").astype("int64") + rows["day"] + 2) % 7  # Monday is 0
    carrier = np.searchsorted(CARRIERS, rows["carrier"].astype(str))
    origin = np.searchsorted(ORIGINS, rows["origin"].astype(str))
    angle = np.deg2rad(rows["wind_dir"].astype("float64"))
    made = {
        "minute_of_day": rows["hour"] * 60 + rows["minute"],
        "wind_east": rows["wind_speed"] * np.sin(angle),
        "wind_north": rows["wind_speed"] * np.cos(angle),
    }
    given = {**rows, **made}
    numbers = [np.nan_to_num((given[name] - usual) / far) for name, (usual, far) in NUMBERS.items()]
    columns = {
        "categories": np.stack([carrier, rows["hour"], origin, weekday], axis=1).astype("uint8"),
        "numbers": np.stack(numbers, axis=1).clip(-8, 8).astype("float32"),
        "delay": rows["dep_delay"].astype("float32"),
    }
    apart = rows["month"] >= config.held_out_from
    return {side: {k: v[mask] for k, v in columns.items()} for side, mask in (("train", ~apart), ("validation", apart))}


# -- training and evaluation -----------------------------------------------------------------------------------------


def train(ctx: TrainContext, config: Config) -> None:
    """Minimise the mean absolute error; compare with the plain baselines at the end."""
    import torch

    from models.tabular import Tabular

    model = ctx.prepare(Tabular(SIZES, len(NUMBERS), config.width, dropout=config.dropout, unit=10.0))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", global_batch_size=config.global_batch_size, epochs=config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * 0.4**batch.epoch
        loss = (model(batch["categories"], batch["numbers"]) - batch["delay"]).abs().mean()
        optimizer.zero_grad()
        (loss * batch.weight).backward()
        optimizer.step()
        ctx.step(loss=loss)
        if ctx.every(steps=500):
            errors(ctx, {"network": model})
    compare(ctx, errors(ctx, {"network": model, **baselines(ctx).predictors()}))


def errors(ctx: TrainContext, predictors: dict[str, Any]) -> dict[str, float]:
    """Mean absolute error in minutes of each predictor on the held-out months; each flight counts once."""
    import torch

    for predictor in predictors.values():
        if isinstance(predictor, torch.nn.Module):
            predictor.eval()
    with ctx.phase("validation"), torch.no_grad():
        sums = torch.zeros(len(predictors) + 1, dtype=torch.float64, device=ctx.device)
        for batch in ctx.batches("validation", batch_size=4096, shuffle=False, tail="wrap"):
            wrong = [p(batch["categories"], batch["numbers"]) - batch["delay"] for p in predictors.values()]
            sums += torch.stack([*(w[batch.mask].abs().double().sum() for w in wrong), batch.mask.sum()])
        *wrong_sums, count = ctx.sum(sums).tolist()
        found = {name: value / count for name, value in zip(predictors, wrong_sums, strict=True)}
        ctx.log(**{f"validation_mae_{name}": value for name, value in found.items()})
    for predictor in predictors.values():
        if isinstance(predictor, torch.nn.Module):
            predictor.train()
    return found


def baselines(ctx: TrainContext) -> Baselines:
    """What the plain predictors need to know of the months that are learnt from."""
    from models.baselines import Baselines

    plain = Baselines(SIZES, len(NUMBERS), ctx.device)
    with ctx.phase("baselines"):
        for batch in ctx.batches("train", batch_size=4096, shuffle=False, tail="wrap"):
            plain.add(*(batch[name][batch.mask] for name in ("categories", "numbers", "delay")))
        plain.counts, plain.gram = ctx.sum(plain.counts), ctx.sum(plain.gram)
    return plain


def compare(ctx: TrainContext, mae: dict[str, float]) -> None:
    """Print all errors, and by how much the network is better than the better of the two plain baselines."""
    better = min(mae["group_mean"], mae["linear"])
    less = 1 - mae["network"] / better
    ctx.log(less_than_better_baseline=less)
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in mae.items())
    ctx.print(f"held-out months, mean absolute error in minutes: {shown}")
    ctx.print(f"the network's is {less:.1%} less than that of the better of group mean (carrier, hour) and linear")


data = {"train": "flights-train", "validation": "flights-validation"}
job = Job(
    name="flight-delay",
    config=Config(),
    stages=[
        Prep(
            "join", fn=join, source={"flights": "flights", "weather": "weather"}, sink="flights-known",
            batch_format="dataset", sort_by=("flight_id",), workers=2, uses=(),
        ),
        Prep(
            "features", fn=features, keep=departed, source="flights-known", sink=data,
            batch_format="numpy", workers=2, uses=("held_out_from",),
        ),
        Train("train", fn=train, data=data, workers=2, best=("validation_mae_network", "min")),
    ],
)  # fmt: skip
