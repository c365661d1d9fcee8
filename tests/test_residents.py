"""Rows of many callers, sampled together: each must get what `predict` gives it alone."""

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.residents import Party

BLOCK = 16


class Folded(nn.Module):
    """Attention over a few tokens: heads are folded into the batch, in the trunk too."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.before = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.3, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.embed(x)
        h = self.before(h, h, h, need_weights=False)[0]
        return self.head(self.layer(h).mean(1))


class TimeFirst(nn.Module):
    """The trunk hands on tokens before rows, and a size that it has read off."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        h = torch.tanh(self.lift(x)).transpose(0, 1)  # [T, B, 8]
        rows = h.shape[1]
        return self.head(self.drop(h)).mean(0).reshape(rows, 2)


class Squeezing(nn.Module):
    """Does not take one row alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x.squeeze())


class Interleaved(nn.Module):
    """The trunk leaves rows in every other place of an axis, where they are not told apart."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        flat = self.drop(torch.tanh(self.lift(x)).t().reshape(-1))
        return self.head(flat.reshape(8, -1).t())


def vgg():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 3),
    )  # fmt: skip


def lstm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(6, 8, 2, dropout=0.3, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    return Net()


MODELS = {
    "mlp": (lambda: nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 32), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(32, 3)), (6,)),
    "first": (lambda: nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 3)), (6,)),
    "vgg": (vgg, (1, 4, 4)),
    "folded": (Folded, (5, 6)),
    "time first": (TimeFirst, (5, 6)),
    "squeezing": (Squeezing, (6,)),
    "lstm": (lstm, (5, 6)),
}  # fmt: skip


def predictor(name, **options):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    return mcdrop.MCDropout(make(), torch.randn(3, *shape), task="classification", **options), shape


def party_of(mc, x, seed=0):
    inputs = mc.residency().check({mc.inputs[0].name: x})
    return Party(inputs, seed, range(len(x)))


def close(found, expected, bound=1e-5):
    for name, value in expected.fields().items():
        torch.testing.assert_close(
            found.fields()[name], value, rtol=bound, atol=bound, equal_nan=True, msg=name
        )


def serve(residency, asks, order):
    """Let every ask take its blocks in an order of its own; those at one block go together."""
    guests = {}
    waiting = dict(enumerate(asks))
    left = {i: order(-(-samples // BLOCK), i) for i, (_, samples) in waiting.items()}
    answers, tick = {}, 0
    while waiting or guests:
        coming = [i for i in list(waiting) if i <= tick]  # one more arrives at each step
        for i in coming:
            guests[i] = residency.enter([waiting.pop(i)[0]])[0]
        steps = {}
        for i, guest in guests.items():
            steps.setdefault((id(guest.residents), left[i][0]), []).append(i)
        for (_, block), some in steps.items():
            start = block * BLOCK
            stops = [min(start + BLOCK, asks[i][1]) for i in some]
            guests[some[0]].residents.step([guests[i] for i in some], start, stops)
            for i in some:
                left[i] = left[i][1:]
        done = [i for i in guests if not left[i]]
        for i in done:
            guest = guests.pop(i)
            answers[i] = guest.residents.predictions([guest])[0]
            guest.residents.leave(guest)
        residency.tidy()
        tick += 1
    return answers


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("name", MODELS)
def test_every_row_gets_what_it_gets_alone(name, masks):
    mc, shape = predictor(name, masks=masks)
    generator = torch.Generator().manual_seed(1)
    asks = []
    for rows, samples, seed in [(1, 16, 0), (3, 100, 0), (2, 64, 5), (1, 7, 0), (4, 33, 5)]:
        x = torch.randn(rows, *shape, generator=generator)
        asks.append((party_of(mc, x, seed), samples))
    residency = mc.residency()
    answers = serve(residency, asks, lambda blocks, i: [(b + i) % blocks for b in range(blocks)])
    for i, (party, samples) in enumerate(asks):
        x = next(iter(party.inputs.values()))
        close(answers[i], mc.predict(x, samples=samples, seed=party.seed))
    assert residency.other_seeds == 0


def test_chunks_of_less_than_a_block():
    mc, shape = predictor("mlp", memory_budget=2048)
    residency = mc.residency()
    party = party_of(mc, torch.randn(1, *shape))
    guest = residency.enter([party])[0]
    chunks = [len(c) for c, _ in guest.residents._cohort.samples(guest.slots, range(32))]
    assert max(chunks) < BLOCK
    guest.residents.step([guest], 16, [25])
    guest.residents.step([guest], 0, [16])
    x = party.inputs[mc.inputs[0].name]
    close(guest.residents.predictions([guest])[0], mc.predict(x, samples=25))


@pytest.mark.parametrize("name", ["mlp", "vgg", "folded", "time first", "lstm"])
def test_the_trunk_is_run_once_for_each_row(name):
    mc, shape = predictor(name)
    residency = mc.residency()
    party = party_of(mc, torch.randn(2, *shape))
    assert residency._trunk(party).layout is not None


def test_rows_that_cannot_be_told_apart_behind_the_trunk_are_joined_before_it():
    torch.manual_seed(0)
    mc = mcdrop.MCDropout(Interleaved(), torch.randn(3, 6), task="classification")
    residency = mc.residency()
    party = party_of(mc, torch.randn(2, 6))
    assert residency._trunk(party).layout is None
    guest = residency.enter([party])[0]
    guest.residents.step([guest], 0, [BLOCK])
    x = party.inputs[mc.inputs[0].name]
    close(guest.residents.predictions([guest])[0], mc.predict(x, samples=BLOCK))


def test_rows_settle_one_by_one_and_come_back_in_order():
    mc, shape = predictor("mlp")
    residency = mc.residency()
    x = torch.randn(4, *shape)
    guest = residency.enter([party_of(mc, x)])[0]
    held = guest.residents
    held.step([guest], 0, [BLOCK])
    held.settle(guest, [False, True, False, True])
    held.step([guest], BLOCK, [2 * BLOCK])
    assert len(held) == 2
    found = held.predictions([guest])[0]
    assert found.samples.tolist() == [32, 16, 32, 16]
    short, long = mc.predict(x, samples=16), mc.predict(x, samples=32)
    close(found.rows(torch.tensor([1, 3])), short.rows(torch.tensor([1, 3])))
    close(found.rows(torch.tensor([0, 2])), long.rows(torch.tensor([0, 2])))
    held.leave(guest)
    assert len(held) == 0


def test_many_parties_go_through_the_trunk_together():
    mc, shape = predictor("vgg")
    residency = mc.residency()
    xs = [torch.randn(n, *shape) for n in (1, 2, 3)]
    parties = [party_of(mc, x, seed) for x, seed in zip(xs, (0, 9, 0), strict=True)]
    guests = residency.enter(parties)
    assert guests[0].residents is guests[2].residents is not guests[1].residents
    guests[0].residents.step([guests[0], guests[2]], 0, [16, 5])
    guests[1].residents.step([guests[1]], 0, [16])
    first, third = guests[0].residents.predictions([guests[0], guests[2]])
    close(first, mc.predict(xs[0], samples=16))
    close(third, mc.predict(xs[2], samples=5))
    close(guests[1].residents.predictions([guests[1]])[0], mc.predict(xs[1], samples=16, seed=9))


def test_a_party_that_cannot_be_looked_up_has_not_entered():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 2))
    mc = mcdrop.MCDropout(net, torch.zeros(2, 3, dtype=torch.int64), task="classification")
    residency = mc.residency()
    good, bad = (party_of(mc, torch.full((1, 3), value)) for value in (3, 10))
    with pytest.raises(mcdrop.InputError, match="look up"):
        residency.enter([good, bad])
    guest = residency.enter([good])[0]
    assert len(guest.residents) == 1


def test_warming_up_plans_for_a_number_of_rows():
    mc, _ = predictor("mlp")
    residency = mc.residency()
    residency.warm(4, 20)
    planner = mc._opened.source
    like = {mc.inputs[0].name: torch.empty(1, 6, device="meta")}
    assert planner.known(like, 3) in planner._plans.values()
    assert planner.known(like, 300) is planner.known(like, 3)  # the nearest, nothing is tried
    assert len(planner._plans) == 1


def test_an_analytic_head_has_no_samples_to_share():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    mc = mcdrop.MCDropout(net, torch.zeros(2, 6), task="regression", analytic_head=True)
    with pytest.raises(mcdrop.InputError, match="analytic"):
        mc.residency()
