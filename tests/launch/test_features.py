"""Feature maps in a run: trained once, scored from the folder, exported with a live program."""

import dataclasses

import numpy as np
import pytest

import detector_jax
from detector_jax.features import KernelMap, PatchMap
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch import evaluation, exporting, run
from launch.data import Files
from launch.methods.drocc import Config, FeaturesConfig

SMALL = FeaturesConfig("patches", centroids=6, window=3, pool=1, components=4)


def stripes(n: int, seed: int, turned: bool = False) -> np.ndarray:
  """``[n, 16, 16, 1]``: stripes of random phase, across or along."""
  rng = np.random.default_rng(seed)
  wave = np.sin(np.arange(16.0) * 1.3 + rng.uniform(0, 6, (n, 1)))[:, :, None] * np.ones((1, 1, 16))
  wave = wave + 0.05 * rng.normal(size=wave.shape)
  return (wave.swapaxes(1, 2) if turned else wave)[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("features")
  np.save(folder / "train.npy", stripes(120, 0))
  x = np.concatenate([stripes(30, 1), stripes(30, 2, turned=True)])
  np.savez(folder / "test.npz", x=x, y=np.repeat([0, 1], 30))
  config = Config(
    data=Files(train=str(folder / "train.npy"), test=str(folder / "test.npz"), label="y"),
    features=SMALL,
    network=NetworkConfig("mlp", (32,)),
    epochs=400,
    checkpoints=1,
  )
  run.train(config, folder / "run")
  return folder / "run", config, x


def test_the_run_s_detector_takes_raw_records(finished):
  workdir, _, x = finished
  detector = detector_jax.load(workdir / "detector")
  assert detector.input_shape == (16, 16, 1)
  assert detector.arrays["features/centroids"].shape[0] == 6
  assert evaluation.evaluate(workdir)["metrics"]["auroc"] > 0.9
  assert np.isfinite(detector.score(x)).all()


def test_it_is_exported_with_a_program_that_can_be_traced_anew(finished):
  workdir, _, x = finished
  live, loaded = exporting.live(workdir), detector_jax.load(workdir / "detector")
  assert isinstance(live.arrays["features"], PatchMap)
  np.testing.assert_allclose(live.score(x), loaded.score(x), rtol=1e-5, atol=1e-5)


def test_the_same_command_again_gives_the_same_detector(finished, tmp_path):
  workdir, config, x = finished
  run.train(config, tmp_path / "again")
  one, two = (detector_jax.load(place / "detector") for place in (workdir, tmp_path / "again"))
  np.testing.assert_array_equal(one.score(x), two.score(x))


def test_kernels_of_a_series_are_exported_with_a_live_program_too(tmp_path):
  np.save(tmp_path / "train.npy", stripes(60, 0)[..., 0])
  config = Config(
    data=Files(train=str(tmp_path / "train.npy")),
    features=FeaturesConfig("kernels", shares=84 * 2, components=4),
    epochs=1,
    checkpoints=1,
  )
  run.train(config, tmp_path / "run")
  live, loaded = exporting.live(tmp_path / "run"), detector_jax.load(tmp_path / "run" / "detector")
  assert isinstance(live.arrays["features"], KernelMap)
  assert loaded.input_shape == (16, 16)
  x = stripes(20, 1)[..., 0]
  np.testing.assert_allclose(live.score(x), loaded.score(x), rtol=1e-5, atol=1e-5)


AUTO = Config(data=Files(), drocc=DroccConfig.automatic())


@pytest.mark.parametrize(
  ("change", "wanted"),
  [
    ({}, True),
    ({"features": FeaturesConfig("none")}, False),
    ({"network": NetworkConfig("mnist_lenet")}, False),
    ({"drocc": DroccConfig(mu=None)}, False),  # as runs of 0.1 have it
    ({"drocc": DroccConfig(mu=None), "features": FeaturesConfig("patches")}, True),
  ],
)
def test_auto_takes_patches_where_nothing_else_is_asked_for(change, wanted):
  config = dataclasses.replace(AUTO, **change)
  small = dataclasses.replace(config.features, centroids=4, components=3)
  found = small.fit(config, stripes(100, 0), None)
  assert (found is not None) == wanted


def test_auto_leaves_negatives_few_images_and_tables_alone():
  images = stripes(100, 0)
  for x, negatives in ((images, images[:3]), (images[:19], None), (images[..., 0, 0], None)):
    assert AUTO.features.fit(AUTO, x, negatives) is None


def test_an_unknown_map_is_refused():
  with pytest.raises(ValueError, match=r"must be auto, none, patches, kernels; got 'sift'"):
    FeaturesConfig("sift").fit(AUTO, stripes(2, 0), None)
