"""A detector behind HTTP: bodies, micro-batches, remembered answers, measures, a server."""
