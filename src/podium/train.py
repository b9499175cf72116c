"""Training: one fold, in two phases, and through what may come between

First the head alone, on the features of the frozen backbone, so that its first wild gradients do
not spoil pretrained weights; then everything, at a lower rate. The last epoch's weights are kept:
to pick the best epoch by validation would flatter the validation.

What a killed run needs in order to go on lies in checkpoints: weights, optimizer, generators, and
the place in the course. Everything else, the order of the images too, follows from the seed.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras

from podium.batches import Host
from podium.checkpoint import restore_state
from podium.conclude import Observer, is_followed
from podium.config import Config
from podium.diary import Diary, EpochWatch, describe_epoch
from podium.epochs import Epoch, Position, enter_epoch, find_epoch, set_course, start_position
from podium.events import Reporter
from podium.fold_data import TrainingSet, take_fold
from podium.freezing import warn_of_slow_statistics
from podium.hosts import ask_first_host
from podium.keeper import Keeper, write_model, write_truth
from podium.lr_range import show_range_test
from podium.model import strip_augmentation
from podium.network import Start
from podium.optimizers import set_rates, swap_averages
from podium.pace import describe_bottleneck, measure_rate
from podium.planner import Planner
from podium.setbacks import (
    ADVICE,
    LOWER,
    DivergedError,
    halve_parts,
    is_out_of_memory,
    lower_rate,
)
from podium.stretch import Ending, Halt, Stretch
from podium.trainee import Shape, Trainee


class Session(NamedTuple):
    """What all folds of a run share."""

    folder: Path
    devices: int
    report: Reporter
    planner: Planner
    halt: Halt


class Trained(NamedTuple):
    """A fold's network, as it answers."""

    model: keras.Model
    complete: bool  # or stopped before its course's end
    parts: int  # in which a batch fits on the device


def train_fold(
    config: Config, start: Start, data: TrainingSet, fold: int, session: Session
) -> Trained:
    """Trains on all folds but one and returns the model.

    Validates on the fold left out after each epoch. Writes history.csv, checkpoints and, at the
    end, model.keras into fold0 … of the session's folder; that model takes raw uint8 pixels and
    loads where there is only Keras, unless its backbone is a SavedModel. Goes on from a checkpoint
    if there is one. Raises PixelError if the pixels were scaled already, OutOfMemoryError and
    DivergedError if nothing helps.
    """
    return FoldTraining(config, start, data, fold, session).run()


class FoldTraining:
    """The training of one fold: what does not change, and how far it has got."""

    def __init__(
        self, config: Config, start: Start, data: TrainingSet, fold: int, session: Session
    ) -> None:
        self.config, self.fold, self.session = config, fold, session
        self.report, self.planner = session.report, session.planner
        self.folder = session.folder / f"fold{fold}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = take_fold(config, data, fold)
        self.course = set_course(config, self.data.steps)
        self.planner.begin_fold(fold, self.course)
        self.trainee, self.observer = Trainee(config, start, self.data), Observer(config, start)
        self.diary = Diary(self.folder, fold, self.data.task.metric, self.report)
        self.keeper = Keeper(self.folder, config.train.checkpoint_minutes, self.report)
        self.position = start_position(config, self.course)
        self.watch = EpochWatch(self.planner.now())
        self.over = False  # the course ends before its end
        self.supply = self.rate = 0.0  # images per second that the input gives, training takes

    # The way through the course.

    def run(self) -> Trained:
        """Goes through the course, and concludes it."""
        self.data.check()
        with Host(self.config, self.data.pixels, self.report) as host:
            self.resume()
            if self.fold == 0:
                self.supply = measure_rate(self.data.make_batches(host, self.position.parts, 0))
            complete = True
            while complete and (epoch := self.find_epoch()):
                complete = not self.is_ending() and self.run_epoch(epoch, host)
            self.planner.end_course()
            return self.finish(host) if complete else self.break_off()

    def find_epoch(self) -> Epoch | None:
        """What comes next, as far as time goes."""
        was = find_epoch(self.config, self.course, self.position)
        if was is None or self.over:
            return None  # more time does not help: the rate has come down
        self.course = self.planner.plan(self.position.done)
        epoch = find_epoch(self.config, self.course, self.position)
        if self.position.summed and (epoch is None or epoch.phase != was.phase):
            self.close_epoch(was)  # time was short, and its phase has ended within it
        return epoch

    def is_ending(self) -> bool:
        """Is the run to end where an epoch has ended? Then the place is kept."""
        between = self.position.updates > 0 and self.position.summed == 0
        if ends := between and bool(ask_first_host(self.session.halt.soon())):
            self.keeper.keep(self.prepare(), self.position)
        return ends

    def run_epoch(self, epoch: Epoch, host: Host) -> bool:
        """Does the updates of an epoch, or as many as can be; returns False to end the fold."""
        started = self.planner.now() if epoch.first == 0 else None
        try:
            self.enter(epoch, host)
            stretch = self.run_stretch(epoch, host)
            figures = stretch.figures()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.take_less(error)
            return True
        if stretch.ending == "diverged" or not math.isfinite(figures["log_loss"]):
            self.go_back(epoch)
            return True
        self.planner.end_stretch(epoch.phase, stretch, started)
        self.position = self.position_after(stretch, epoch)
        self.watch.add(stretch.updates * self.data.batch_size, stretch.seconds)
        if stretch.updates == epoch.updates:
            self.close_epoch(epoch)
        if stretch.ending == "stopped":
            self.keeper.keep(stretch.model, self.position)
            return False
        return True

    def enter(self, epoch: Epoch, host: Host) -> None:
        """Gives a phase its schedule when it begins, and a shorter one when time is short."""
        begins = epoch.phase != self.position.phase
        self.position = enter_epoch(self.config, self.course, self.position, epoch)
        model = self.prepare(clean=epoch.clean)
        if begins:
            self.keeper.keep(model, self.position)
            if epoch.phase == "all" and self.fold == 0:
                self.look_ahead(model, host)

    def look_ahead(self, model: keras.Model, host: Host) -> None:
        """Says what can be said of the settings before everything trains for the first time."""
        warn_of_slow_statistics(model, self.data.steps, self.report)
        if self.config.schedule.range_test:
            batches = self.data.make_batches(host, self.position.parts, 0)
            peak = self.position.schedule.peak
            show_range_test(model, batches, peak, self.folder, self.report)

    def run_stretch(self, epoch: Epoch, host: Host) -> Stretch:
        """The updates of an epoch by Keras's fit, which may end before the last of them."""
        place, model = self.position, self.prepare(clean=epoch.clean)
        set_rates(model.optimizer, place.schedule.rates(epoch.first, epoch.updates))
        batches = self.data.make_batches(None if epoch.clean else host, place.parts, place.updates)
        stretch = Stretch(model, place.parts, partial(self.look_up, epoch), self.planner.now)
        steps = epoch.updates * place.parts
        model.fit(batches, steps_per_epoch=steps, callbacks=stretch, verbose=0)
        return stretch

    def look_up(self, epoch: Epoch, stretch: Stretch) -> Ending:
        """After each update: speaks, keeps, and says whether the stretch must end here."""
        self.diary.speak(
            epoch.number, epoch.first % self.data.steps + stretch.updates, self.data.steps
        )
        done = self.position.move(epoch.phase, stretch.updates, 0.0, 0.0).done
        course = self.planner.time_updates(epoch.phase, stretch, done)
        if self.session.halt.at_once():
            return "stopped"
        if stretch.updates == epoch.updates:
            return ""
        if self.keeper.is_due():
            stretch.synchronise()
            if not self.keeper.keep(stretch.model, self.position_after(stretch, epoch)):
                return "diverged"
        changed = course not in (None, self.course)
        return "replanned" if changed or self.planner.is_late(self.course, done) else ""

    def close_epoch(self, epoch: Epoch) -> None:
        """Validates, lets the schedule know, and writes the epoch's row."""
        model, place, began = self.prepare(clean=epoch.clean), self.position, self.planner.now()
        swap_averages(model)
        data = self.data.in_parts(place.parts)
        marks, closer = data.mark(model), None
        self.planner.end_check(self.planner.now() - began)
        if self.is_followed(epoch) and self.planner.spares_time():
            closer = self.observer.follow(model, data)
        swap_averages(model)
        row = {
            **describe_epoch(epoch, place, marks, closer),
            **self.watch.read(self.planner.now()),
            "left": round(self.planner.left(), 1),
        }
        self.rate = row["images_per_second"]
        self.diary.add(row, epoch.total)
        self.watch = EpochWatch(self.planner.now())
        self.position = replace(place, schedule=place.schedule.check(marks.loss)).close_epoch()
        if self.keeper.is_due():
            self.keeper.keep(model, self.position)

    # What may come between.

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one."""
        kept = self.keeper.latest()
        self.diary.start_at(kept[0].updates if kept else 0)
        if kept:
            self.restore(*kept)
            done, whole = self.position.updates, self.course.head + self.course.all
            self.report.emit("fold_resumed", fold=self.fold, updates=done, of=whole)
            self.report.say(f"  fold {self.fold} goes on after {done} of {whole} updates")

    def restore(self, place: Position, state: Mapping[str, Any]) -> None:
        """Goes to a place, with a network in the state that was kept there."""
        self.trainee.forget()
        self.position = place
        restore_state(self.prepare(), state, accumulators=False)

    def go_back(self, epoch: Epoch) -> None:
        """After a loss that is no number: back to the last checkpoint, at a lower rate.

        Where that was tried often enough, the course ends there.
        """
        where = f"fold {self.fold} epoch {epoch.number}: the loss is no number any more"
        kept = self.keeper.latest()
        if kept is None:
            raise DivergedError(f"{where}, and there is no checkpoint to go back to; {ADVICE}")
        saved, state = kept
        lower = lower_rate(self.position, saved)
        if lower is None:
            self.report.warn(f"{where}, for the third time; the weights before it answer; {ADVICE}")
            self.restore(saved, state)
            self.over = True
            return
        share = LOWER**lower.lowered
        self.report.warn(
            f"{where}; back to update {saved.updates}, at {share:g} of the rate; {ADVICE}"
        )
        self.restore(lower, state)
        self.keeper.keep(self.prepare(), lower)

    def take_less(self, error: Exception) -> None:
        """After out-of-memory: half as many images at once, and as many for an update."""
        whole, was = self.data.batch_size, self.position
        place = halve_parts(was, whole, self.session.devices)
        self.report.warn(
            f"fold {self.fold}: {whole // was.parts} images at once are too many for the device's "
            f"memory; each batch of {whole} goes through in {place.parts} parts from now on, and "
            f"batch norm sees {whole // place.parts} images; optimizer.accumulate={place.parts} "
            f"does so from the start"
        )
        kept = self.keeper.latest()
        if kept:
            self.restore(replace(kept[0], parts=place.parts), kept[1])
        else:
            self.trainee.forget()
            self.position = place

    def break_off(self) -> Trained:
        """The network as it answers where it was stopped."""
        model = self.prepare()
        swap_averages(model)
        answering = strip_augmentation(model, self.config.pixels.image_size)
        return Trained(answering, False, self.position.parts)

    def finish(self, host: Host) -> Trained:
        """The network as it answers at the end of its course, kept and written."""
        model, config, parts = self.prepare(), self.config, self.position.parts
        self.keeper.keep(model, self.position)
        if self.supply and self.rate:
            self.report.say(f"  {describe_bottleneck(self.supply, self.rate)}")
        swap_averages(model)
        if self.planner.spares_time():
            stream = self.data.make_batches(host, parts, 0)
            data = self.data.in_parts(parts)
            answering, record = self.observer.conclude(model, data, stream)
        else:
            answering, record = strip_augmentation(model, config.pixels.image_size), {}
        write_truth(record, self.folder, self.report)
        if "words" in record:
            self.report.say(f"  fold {self.fold}: {record['words']}")
        write_model(answering, self.folder, self.report)
        return Trained(answering, True, parts)

    def prepare(self, *, clean: bool = False) -> keras.Model:
        """The network as the place needs it."""
        shape = Shape(self.position.phase, self.position.size, clean, self.position.parts)
        return self.trainee.prepare(shape, self.data.steps)

    def is_followed(self, epoch: Epoch) -> bool:
        """Is this an epoch after which one looks closer? That of the first fold speaks for all."""
        number = epoch.first // self.data.steps + 1
        wanted = self.fold == 0 and self.config.predict.recalibrate != "no"
        return wanted and epoch.phase == "all" and is_followed(number)

    def position_after(self, stretch: Stretch, epoch: Epoch) -> Position:
        """Where the fold stands after what a stretch has done so far."""
        loss, accuracy = (stretch.figures()[name] for name in ("log_loss", "accuracy"))
        return self.position.move(epoch.phase, stretch.updates, loss, accuracy)
