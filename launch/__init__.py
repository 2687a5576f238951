"""Everything with side effects: flags, files, devices, progress."""
