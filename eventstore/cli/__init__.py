"""The `eventstore` command; needs the extra `cli`. See `main` for how it is put together."""
