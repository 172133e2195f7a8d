"""The agent of an engine host: spawns engines, keeps them alive, serves their logs. No Django here."""
