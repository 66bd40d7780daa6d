"""What commands say, told apart."""

import re


def refused(result, code, sentence):
    """One sentence on stderr, which begins as said, and nothing on stdout."""
    assert result.code == code
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert re.search(rf"^smalti: {sentence}", line), line
    return True
