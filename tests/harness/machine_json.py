"""Reading /machine.json, the exposed state of the machine."""

import json
import subprocess

from harness.http import Connection


def machine_json(machine):
    """The state of a machine on user networking."""
    with Connection("127.0.0.1", machine.config.port) as connection:
        answer = connection.get("/machine.json", Connection="close")
    assert answer.status == 200, answer
    return json.loads(answer.body)


def machine_json_at(network, address):
    """The state of a machine in a network namespace."""
    text = subprocess.run([*network.prefix, "curl", "-sSf", "-m", "20",
                           f"http://{address}/machine.json"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(text)


def environment(state, name):
    """The environment of this name in a state, or None."""
    return next((env for env in state["envs"] if env["name"] == name), None)
