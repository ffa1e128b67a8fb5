from typing import final

MAX_NAME_BYTES: int

def check_name(name: str) -> bytes: ...

@final
class AgentIndex: ...
