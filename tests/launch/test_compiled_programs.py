"""Programs that a command compiles stay in the user's cache folder, unless the environment says."""

import jax
import pytest

from launch import flags


@pytest.fixture
def settings():
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = {name: getattr(jax.config, name) for name in names}
  yield before
  for name, value in before.items():
    jax.config.update(name, value)


def test_the_folder_is_of_this_processor_in_the_users_cache(settings, monkeypatch, tmp_path):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  flags.keep_compiled()
  (folder,) = (tmp_path / "drocc_jax" / "compiled").iterdir()
  assert folder.name.startswith(jax.lib.__version__ + "-")
  assert jax.config.jax_compilation_cache_dir == str(folder)
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0


def test_the_environment_and_a_folder_that_cannot_be_made_leave_all_as_it_was(
  settings, monkeypatch, tmp_path
):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
  flags.keep_compiled()  # JAX_COMPILATION_CACHE_DIR is set in tests
  assert not (tmp_path / "home").exists()
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  (tmp_path / "home").write_text("a file")
  flags.keep_compiled()
  assert {name: getattr(jax.config, name) for name in settings} == settings
