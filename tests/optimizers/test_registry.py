"""Kinds of optimizers: known ones, declared ones, and refusal of the rest."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from etastar.errors import OptimizerError
from etastar.optimizers import OPTIMIZERS, optimizer_class, optimizer_kind, optimizer_like
from etastar.optimizers.reading import step_powers
from etastar.parameter import ParamInfo
from etastar.transfer import check_schedule


def parameter():
    return [torch.nn.Parameter(torch.zeros(2, 2))]


@pytest.mark.parametrize(
    ("spec", "update", "decoupled"),
    [
        ("sgd", "sgd", False),
        ("SGD", "sgd", False),
        (torch.optim.SGD, "sgd", False),
        (torch.optim.Adam, "adam", False),
        (torch.optim.AdamW, "adam", True),
        (torch.optim.Muon, "muon", True),
        (torch.optim.SGD(parameter(), lr=1.0, momentum=0.9, nesterov=True), "sgd", False),
        (torch.optim.Adam(parameter(), decoupled_weight_decay=True), "adam", True),
        (torch.optim.NAdam, "adam", False),
        (torch.optim.RAdam(parameter(), decoupled_weight_decay=True), "adam", True),
        ("adamax", "adam", False),
        (torch.optim.Adafactor, "relative", True),
    ],
)
def test_known_optimizers(spec, update, decoupled):
    kind = optimizer_kind(spec)
    assert (kind.update, kind.decoupled_weight_decay) == (update, decoupled)


def test_default_epsilon_is_the_optimizers_own():
    for name in ("adam", "muon", "nadam", "radam", "adamax"):
        kind = optimizer_kind(name)
        assert kind.eps == optimizer_class(kind)(parameter()).defaults["eps"]
    assert optimizer_kind("sgd").eps is optimizer_kind("adafactor").eps is None


def test_an_instance_brings_its_own_settings():
    adam = optimizer_kind(torch.optim.AdamW(parameter(), eps=1e-5, weight_decay=0.3))
    assert (adam.eps, adam.weight_decay) == (1e-5, 0.3)
    muon = optimizer_kind(torch.optim.Muon(parameter(), adjust_lr_fn="match_rms_adamw"))
    assert muon.shape_rule == "match_rms_adamw"


def test_an_instance_with_unequal_groups_is_refused():
    groups = [{"params": parameter(), "lr": 0.1}, {"params": parameter(), "lr": 0.2}]
    with pytest.raises(OptimizerError, match="group 1 differs from group 0 in lr"):
        optimizer_kind(torch.optim.SGD(groups))


def test_groups_of_an_instance_may_differ_in_weight_decay_alone():
    groups = [{"params": parameter()}, {"params": parameter(), "weight_decay": 0.0}]
    kind = optimizer_kind(torch.optim.AdamW(groups, weight_decay=0.2))
    assert kind.weight_decay == 0.2
    groups = [{"params": parameter()}, {"params": parameter(), "betas": (0.9, 0.95)}]
    with pytest.raises(OptimizerError, match="group 1 differs from group 0 in betas"):
        optimizer_kind(torch.optim.AdamW(groups))


def test_default_betas_are_the_optimizers_own():
    for cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.Adamax):
        assert optimizer_kind(cls).betas == cls(parameter()).defaults["betas"]
    assert optimizer_kind("sgd").betas is optimizer_kind("muon").betas is None
    assert optimizer_kind(torch.optim.Adam(parameter(), betas=(0.8, 0.9))).betas == (0.8, 0.9)
    declared = optimizer_like(torch.optim.NAdam, "adam", decoupled_weight_decay=False)
    assert declared.betas == (0.9, 0.999)


class OwnAdam(torch.optim.Adam):
    pass


@pytest.mark.parametrize(
    "spec", ["lamb", torch.optim.ASGD, torch.optim.Adagrad(parameter()), OwnAdam, int, None, 3]
)
def test_an_undeclared_optimizer_says_how_to_declare_it(spec):
    with pytest.raises(OptimizerError, match=r"etastar\.optimizer_like\("):
        optimizer_kind(spec)


def test_a_class_that_has_the_name_of_another_is_told_by_its_module():
    namesake = type("Adafactor", (torch.optim.Adagrad,), {"__module__": "elsewhere"})
    for spec in (namesake, namesake(parameter())):
        with pytest.raises(OptimizerError, match="received: optimizer elsewhere:Adafactor"):
            optimizer_kind(spec)


def test_a_declared_optimizer_is_known():
    kind = optimizer_like(torch.optim.Adagrad, "adam", decoupled_weight_decay=False)
    assert (kind.name, kind.update, kind.eps) == ("adagrad", "adam", 1e-10)
    assert optimizer_kind(kind) is kind
    assert optimizer_like(torch.optim.Rprop, "adam", decoupled_weight_decay=False).eps is None


class Layerwise(torch.optim.Optimizer):
    """A step of the size of the parameter: LARS along the gradient, LAMB along Adam's."""

    def __init__(self, params, lr, sign):
        super().__init__(params, {"lr": lr, "sign": sign})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                direction = p.grad.sign() if group["sign"] else p.grad
                p.sub_(direction * p.norm() / direction.norm(), alpha=group["lr"])


class LARS(Layerwise):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr, sign=False)


class LAMB(Layerwise):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr, sign=True)


@pytest.mark.parametrize(
    ("cls", "powers"),
    [
        (torch.optim.SGD, (1, 0)),
        (torch.optim.ASGD, (1, 0)),
        *((getattr(torch.optim, name), (0, 0)) for name in ("Adam", "NAdam", "RAdam", "Adamax")),
        *((getattr(torch.optim, name), (0, 0)) for name in ("Adagrad", "RMSprop", "Rprop")),
        *((cls, (0, 1)) for cls in (torch.optim.Adafactor, LARS, LAMB)),
        (Layerwise, None),  # asks for more than a rate
        (torch.optim.LBFGS, None),  # steps with a closure
    ],
)
def test_what_a_step_goes_with_is_tried(cls, powers):
    found = step_powers(cls)
    assert found is powers if powers is None else found == pytest.approx(powers, abs=0.05)


@pytest.mark.parametrize(
    ("cls", "wrong", "right"),
    [
        (torch.optim.Adafactor, "adam", "relative"),
        (LARS, "sgd", "relative"),
        (LAMB, "adam", "relative"),
        (torch.optim.ASGD, "adam", "sgd"),
        (torch.optim.RMSprop, "sgd", "adam"),
        (torch.optim.Adagrad, "relative", "adam"),
    ],
)
def test_a_declaration_that_the_steps_belie_is_refused(cls, wrong, right):
    with pytest.raises(OptimizerError, match="whose step goes with the gradient's scale to the"):
        optimizer_like(cls, wrong, decoupled_weight_decay=False)
    assert optimizer_like(cls, right, decoupled_weight_decay=False).update == right


class SignDescent(torch.optim.Optimizer):
    """Signs of the gradient; decay on the weights, or before the sign."""

    coupled = False

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                decay = group["weight_decay"] * p
                p -= group["lr"] * ((p.grad + decay).sign() if self.coupled else decay)
                p -= 0 if self.coupled else group["lr"] * p.grad.sign()


class CoupledSignDescent(SignDescent):
    coupled = True


@pytest.mark.parametrize(
    ("cls", "is_decoupled"),
    [
        (SignDescent, True),
        (CoupledSignDescent, False),
        (torch.optim.AdamW, True),
        *((getattr(torch.optim, name), False) for name in ("Adam", "NAdam", "RAdam", "Adamax")),
        *((getattr(torch.optim, name), False) for name in ("Adagrad", "RMSprop", "Adadelta")),
    ],
)
def test_a_declared_decay_that_the_steps_belie_is_refused(cls, is_decoupled):
    words = f"declared with decoupled_weight_decay={not is_decoupled}"
    with pytest.raises(OptimizerError, match=words):
        optimizer_like(cls, "adam", decoupled_weight_decay=not is_decoupled)
    kind = optimizer_like(cls, "adam", decoupled_weight_decay=is_decoupled)
    assert kind.decoupled_weight_decay is is_decoupled


def test_where_no_decay_can_be_tried_the_declaration_stands():
    for stated in (True, False):
        kind = optimizer_like(torch.optim.Rprop, "adam", decoupled_weight_decay=stated)
        assert kind.decoupled_weight_decay is stated


@pytest.mark.parametrize(("cls", "update"), [(int, "adam"), ("NAdam", "adam"), (OwnAdam, "muon")])
def test_a_wrong_declaration_is_refused(cls, update):
    with pytest.raises(OptimizerError):
        optimizer_like(cls, update, decoupled_weight_decay=False)


@pytest.mark.parametrize(
    ("role", "shape", "expected"),
    [
        ("hidden", (4, 4), "muon"),
        ("hidden", (4, 4, 3, 3), "adamw"),
        ("input", (4, 4), "adamw"),
        ("output", (4, 4), "adamw"),
        ("embedding", (4, 4), "adamw"),
        ("bias", (4,), "adamw"),
    ],
)
def test_muon_takes_hidden_matrices_alone(role, shape, expected):
    info = ParamInfo("p", shape, role, 4, int(np.prod(shape)))
    assert optimizer_kind("muon").for_parameter(info).name == expected
    assert optimizer_kind("sgd").for_parameter(info).name == "sgd"


OF_PACKAGES = {
    "pytorch_optimizer": {
        "Lion": "lion",
        "SOAP": "soap",
        "Shampoo": "shampoo",
        "SCION": "scion",
        "ScheduleFreeSGD": "schedule-free-sgd",
        "ScheduleFreeAdamW": "schedule-free-adamw",
    },
    "schedulefree": {
        "SGDScheduleFree": "schedule-free-sgd",
        "AdamWScheduleFree": "schedule-free-adamw",
    },
}


@pytest.mark.parametrize(
    ("package", "cls", "name"),
    [(package, cls, name) for package, of in OF_PACKAGES.items() for cls, name in of.items()],
)
def test_classes_of_packages_are_known_with_the_settings_they_have(package, cls, name):
    found = getattr(pytest.importorskip(package), cls)
    kind = optimizer_kind(found)
    assert kind is OPTIMIZERS[name]
    instance = found(parameter(), lr=0.5, weight_decay=0.25)
    group = instance.param_groups[0]
    own = optimizer_kind(instance)
    assert (own.lr, own.weight_decay, own.eps) == (0.5, 0.25, kind.eps and group["eps"])
    assert own.betas == (kind.betas and group["betas"])
    assert own.decoupled_weight_decay == kind.decoupled_weight_decay
    if package == "pytorch_optimizer":
        assert optimizer_class(kind) is found


def test_muon_of_the_package_takes_groups_that_say_whose_they_are():
    muon = pytest.importorskip("pytorch_optimizer").Muon
    kind = optimizer_kind(muon)
    for adjusted, rule in ((True, "match_rms_adamw"), (False, "original")):
        groups = [{"params": parameter(), **kind.group_keys}]  # the class writes into them
        assert optimizer_kind(muon(groups, use_adjusted_lr=adjusted)).shape_rule == rule


@pytest.mark.parametrize(
    ("cls", "setting"),
    [
        ("Lion", {"fixed_decay": True}),
        ("Shampoo", {"fixed_decay": True}),
        ("SOAP", {"normalize_gradient": True}),
        ("SOAP", {"precondition_1d": True}),
        ("SCION", {"norm_type": 4}),
        ("SCION", {"constraint": True}),
    ],
)
def test_an_instance_that_steps_otherwise_than_its_kind_is_refused(cls, setting):
    made = getattr(pytest.importorskip("pytorch_optimizer"), cls)
    with pytest.raises(OptimizerError, match=next(iter(setting))):
        optimizer_kind(made(parameter(), **setting))
    group = {"params": parameter(), "lr": 0.1, "lr_multiplier": 1.0}
    optimizer = made([group], **setting)
    with pytest.raises(OptimizerError, match=next(iter(setting))):
        check_schedule(torch.optim.lr_scheduler.ConstantLR(optimizer))


def test_the_first_class_that_is_installed_is_made():
    kind = replace(OPTIMIZERS["sgd"], source="no_such_package:SGD torch.optim:SGD")
    assert optimizer_class(kind) is torch.optim.SGD
    kind = replace(kind, source="no_such_package:SGD torch.optim:NoSuch")
    with pytest.raises(OptimizerError, match=r"no_such_package:SGD or torch\.optim:NoSuch"):
        optimizer_class(kind)
