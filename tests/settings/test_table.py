"""The table of settings and the values in src/config.py and configs/ have the same keys and types."""
from __future__ import annotations

from src.config import experiment_cfg, load_model_config
from src.settings.overrides import accept, flatten
from src.settings.table import CONFIGURATION, EXPERIMENT
from tests.test_config import CONFIGS


def test_every_experiment_setting_has_a_value_of_its_type() -> None:
    assert experiment_cfg.keys() <= EXPERIMENT.keys()
    for key, setting in EXPERIMENT.items():
        value = experiment_cfg.get(key, setting.default)
        assert setting.help and (value is None if setting.optional else accept(value, setting.kind) == value), key


def test_every_entry_of_every_configuration_is_in_the_table_and_of_its_type() -> None:
    found = {}
    for name in CONFIGS:
        config = load_model_config(name)
        del config['recipes']
        for key, value in flatten(config).items():
            setting = CONFIGURATION[key]
            assert (value is None and setting.optional) or accept(value, setting.kind) == value, (name, key)
            found[key] = value
        required = {key for key, setting in CONFIGURATION.items() if not setting.optional and setting.default is None}
        assert required <= flatten(config).keys(), name
    only_of_users = {'eval.pck_threshold', 'eval.nme_keypoints'}
    assert CONFIGURATION.keys() - found.keys() == only_of_users


def test_defaults_of_model_configurations_are_of_their_types() -> None:
    defaults = {key: setting for key, setting in CONFIGURATION.items() if setting.default is not None}
    assert defaults.keys() == {'eval.metrics', 'eval.pck_threshold', 'eval.nme_keypoints'}
    for key, setting in defaults.items():
        assert accept(setting.default, setting.kind) == setting.default and not setting.optional, key
