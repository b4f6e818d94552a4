"""`oddslog doctor`: everything that the sink needs, asked for and judged.

`host`, `kafka` and `database` only ask; what is made of the facts is decided in
`judge_...`, without any server.
"""

from .examine import examine
from .finding import Finding, Level, exit_code

__all__ = ["Finding", "Level", "examine", "exit_code"]
