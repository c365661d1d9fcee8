"""A stand-in for Lightning's trainer: its documented order of hooks, and what it keeps.

Metrics of a validation stay in `callback_metrics` until the next one, as Lightning's do.
"""

from torch import nn

MODULE = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3))


class Base:
    """In place of `lightning.Callback`: every hook, doing nothing, and a key for checkpoints."""

    @property
    def state_key(self):
        return type(self).__qualname__

    def setup(self, trainer, pl_module, stage):
        pass

    def teardown(self, trainer, pl_module, stage):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict):
        pass


for _hook in (
    "on_sanity_check_start", "on_sanity_check_end", "on_fit_start", "on_fit_end", "on_train_start",
    "on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_validation_start",
    "on_validation_end", "on_validation_epoch_start", "on_validation_epoch_end",
):  # fmt: skip
    setattr(Base, _hook, lambda self, trainer, pl_module: None)
Base.on_exception = lambda self, trainer, pl_module, exception: None


class Trainer:
    def __init__(self, callback, *, train, validation, every=1, fails_at=None, **attributes):
        """`train` and `validation` give the metrics of an epoch."""
        self.callback, self.train, self.validation = callback, train, validation
        self.every, self.fails_at = every, fails_at
        self.callback_metrics: dict[str, object] = {}
        self.current_epoch = 0
        self.sanity_checking = False
        self.keeps_sanity = False
        vars(self).update(attributes)

    def call(self, hook, *arguments):
        getattr(self.callback, hook)(self, MODULE, *arguments)

    def fit(self, epochs):
        try:
            self._fit(epochs)
        except BaseException as error:
            self.call("on_exception", error)
            raise

    def validate(self):
        self.call("on_validation_start")
        self.call("on_validation_epoch_start")
        self.callback_metrics.update(self.validation(self.current_epoch))
        self.call("on_validation_epoch_end")
        self.call("on_validation_end")

    def _fit(self, epochs):
        # Lightning puts methods of its module over those of callbacks that have these names
        self.callback.log = self.callback.log_dict = lambda *_, **__: None
        self.call("setup", "fit")
        self.call("on_fit_start")
        self.call("on_sanity_check_start")
        self.sanity_checking = True
        self.validate()
        self.sanity_checking = False
        if not self.keeps_sanity:
            self.callback_metrics.clear()
        self.call("on_sanity_check_end")
        self.call("on_train_start")
        while self.current_epoch < epochs:
            self.call("on_train_epoch_start")
            if self.current_epoch == self.fails_at:
                raise RuntimeError("the training broke")
            if (self.current_epoch + 1) % self.every == 0:
                self.validate()
            self.callback_metrics.update(self.train(self.current_epoch))
            self.call("on_train_epoch_end")
            self.current_epoch += 1
        self.call("on_train_end")
        self.call("on_fit_end")
        self.call("teardown", "fit")
