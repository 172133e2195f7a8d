"""`./kindling backup` and `restore`: database, secrets, adapter files and the usage log in one file."""
