"""The verbs of ``syndicate-manager``, each imported when it is called."""
