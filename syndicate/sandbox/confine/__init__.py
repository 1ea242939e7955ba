"""What runs inside a launcher: standard library only, and little of that.

These modules avoid :mod:`json`, :mod:`signal`, :mod:`typing` and whatever else imports :mod:`re`
or :mod:`enum`: together they double the time that a launcher takes to start.
"""
