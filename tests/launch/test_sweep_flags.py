"""The flags of a sweep: values as people write them, and one sentence for what cannot be swept."""

from absl import flags
import pytest

from drocc_jax import drocc, drocc_oe
from launch import sweep_flags


def axes(*arguments: str) -> sweep_flags.Axes:
  argv, values = ["sweep", *arguments], flags.FlagValues()
  sweep_flags.define(argv, values)
  values(argv)
  return sweep_flags.given(values)


@pytest.mark.parametrize(
  ("flag", "wanted"),
  [
    ("radius=1,2,4", (1.0, 2.0, 4.0)),
    ("radius=3", (3.0,)),
    ("radius=1, 2.5 ,", (1.0, 2.5)),
    ("radius=1:4", (1.0, 2.0, 3.0)),
    ("radius=log(0.5,8,5)", (0.5, 1.0, 2.0, 4.0, 8.0)),
    ("radius=log(1,10,3),20", (1.0, 3.16228, 10.0, 20.0)),
    ("learning_rate=1e-3,1e-4", (1e-3, 1e-4)),
    ("seed=0:5", (0, 1, 2, 3, 4)),
    ("seed=7,0:2", (7, 0, 1)),
    ("num_steps=log(1,16,5)", (1, 2, 4, 8, 16)),
    ("num_steps=log(1,3,9)", (1, 2, 3)),
  ],
)
def test_values(flag, wanted):
  name = flag.split("=")[0]
  found = axes(f"--sweep.{flag}")
  assert found == {name: wanted}
  assert {type(value) for value in found[name]} == {type(wanted[0])}


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("foo=1", "foo is no setting that can be swept; Valid: radius, gamma, "),
    ("raduis=1", r"did you mean radius\? Valid: radius, gamma, .*, sigma_steps, seed$"),
    ("drocc.radius=1", "drocc.radius is not the name of an axis; did you mean radius"),
    ("optimizer=adam", "optimizer cannot be swept in one program, .* run it as separate sweeps"),
    ("network.hidden=8", "network.hidden cannot be swept in one program"),
    ("batch_size=8,16", "batch_size cannot be swept in one program"),
    ("total_steps=8", "total_steps cannot be swept in one program"),
    ("radius=", "radius has an empty value or none; give values as 1,2,4"),
    ("radius=,", "radius has an empty value or none"),
    ("radius=1,,2", "radius has an empty value or none"),
    ("radius=1,a", "'a' is no number; give values as"),
    ("radius=nan", "'nan' is not finite"),
    ("seed=1.5", "'1.5' is no integer"),
    ("num_steps=2.0", "'2.0' is no integer"),
    ("seed=5:5", "the range 5:5 is empty; 5:10 are five values"),
    ("seed=0:10001", "0:10001 has 10,001 values, more than the 10,000 of one axis"),
    ("radius=1,2,1.0", "radius has the value 1 twice"),
    ("radius=log(0,8,5)", r"log\(0,8,5\) must be log\(lo,hi,n\) with 0 < lo < hi and n of 2"),
    ("radius=log(1,8,1)", r"log\(1,8,1\) must be"),
    ("radius=log(8,1,5)", r"log\(8,1,5\) must be"),
    ("radius=log(1,8)", r"'log\(1,8\)' is no number"),
  ],
)
def test_what_cannot_be_swept_is_one_sentence(flag, said):
  with pytest.raises(flags.Error, match=said) as caught:
    axes(f"--sweep.{flag}")
  assert "\n" not in str(caught.value)


def test_an_axis_given_twice_is_refused():
  with pytest.raises(flags.Error, match="radius is swept more than once; give all its values in"):
    axes("--sweep.radius=1", "--sweep.radius=2")


def test_no_axis_is_refused():
  with pytest.raises(ValueError, match=r"nothing to sweep: give --sweep\.NAME=VALUES.* Valid: rad"):
    axes()


def test_axes_come_in_one_order():
  one = axes("--sweep.seed=0:2", "--sweep.mu=1,2", "--sweep.radius=1,2")
  two = axes("--sweep.radius=1,2", "--sweep.seed=0:2", "--sweep.mu=1,2")
  assert list(one) == list(two) == ["radius", "mu", "seed"]


def test_names_are_the_traced_settings_of_each_algorithm_and_the_seed():
  assert sweep_flags.names(drocc.Hyper) == (
    "radius",
    "gamma",
    "mu",
    "step_size",
    "num_steps",
    "noise_scale",
    "warmup_steps",
    "learning_rate",
    "weight_decay",
    "average_decay",
    "seed",
  )
  assert set(sweep_flags.names(drocc_oe.Hyper)) - set(sweep_flags.names(drocc.Hyper)) == {"nu"}
  assert set(sweep_flags.names()) > set(sweep_flags.names(drocc_oe.Hyper))
