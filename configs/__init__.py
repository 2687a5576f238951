"""One file per experiment: ``get_config()`` returns typed settings."""
