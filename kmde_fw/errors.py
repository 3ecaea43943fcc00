"""The error tree. A message says what is wrong, where, and what to do; the command line prints it and exits with 1."""


class KmdeError(Exception):
    """Any failure that a person can mend; its text is a sentence for that person."""


class ConfigError(KmdeError):
    """The campaign file, or a parameter of a Firetask, is wrong."""


class InputError(KmdeError):
    """A structure file, or a structure in it, cannot be used."""


class StoreError(KmdeError):
    """The database is down, of another schema version, or holds something else than was expected."""


class ServerError(KmdeError):
    """The embedded database server cannot be started or stopped."""


class EngineError(KmdeError):
    """The reference cannot be set up on this machine (unknown calculator, missing package)."""


class ModelError(KmdeError):
    """A model file is damaged, foreign, or does not fit the structure that it is asked about."""
