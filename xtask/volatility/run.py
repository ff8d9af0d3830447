"""Runs plugins of Volatility 3 on an image and writes down their rows.

    run.py IMAGE SYMBOLS OUT JOBS PLUGIN...

SYMBOLS is a folder with ISF files, OUT a folder that gets PLUGIN.json for each plugin:

    {"plugin", "seconds", "columns": [name...], "rows": [[text...]...], "error": traceback or null}

The image is opened and the symbols are parsed and validated once; then each plugin runs in a process that was
forked from that state, JOBS of them at a time, so that none sees what another one did to it. The command line of
Volatility would begin anew for each plugin. The status is not 0 when a plugin failed, 2 when none could run.

Caches go to $XDG_CACHE_HOME, which decides whether an earlier run already validated the file.
"""

import json
import os
import sys
import time
import traceback

# Volatility checks files by their schema only where this is there, and says nothing where it is not.
import jsonschema  # noqa: F401
import volatility3.plugins
import volatility3.symbols
from volatility3 import framework, schemas
from volatility3.cli import MuteProgress
from volatility3.framework import automagic, constants, contexts, interfaces, plugins
from volatility3.framework.automagic import stacker
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import physical
from volatility3.framework.renderers import format_hints

# What all plugins begin with, and the one that sets up the kernel for the others.
FIRST = "linux.pslist.PsList"
BASE = "plugins"


def text(value):
    """A cell as a person would read it, without anything that depends on a column's width."""
    if isinstance(value, interfaces.renderers.BaseAbsentValue):
        return None
    if isinstance(value, format_hints.Hex):
        return hex(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (bool, int, float)):
        return str(int(value) if isinstance(value, int) else value)
    return str(value)


def rows_of(plugin):
    grid = plugin.run()
    rows = []
    if grid is None:
        raise RuntimeError("the plugin ended without an answer")
    grid.populate(lambda node, rows: rows.append([text(value) for value in node.values]) or rows, rows)
    return [column.name for column in grid.columns], rows


def prepare(image, known):
    """A context with the image's layers and the kernel's symbols, and the plugin that asked for them."""
    context = contexts.Context()
    failures = framework.import_files(volatility3.plugins, True)
    known.update(framework.list_plugins())
    if FIRST not in known:
        raise RuntimeError(f"no {FIRST}; not loaded: {sorted(failures)}")
    plugin = known[FIRST]
    context.config["automagic.LayerStacker.single_location"] = (
        requirements.URIRequirement.location_from_file(image)
    )
    magics = automagic.choose_automagic(automagic.available(context), plugin)
    context.config["automagic.LayerStacker.stackers"] = stacker.choose_os_stackers(plugin)
    return context, plugins.construct_plugin(context, magics, plugin, BASE, MuteProgress(), None)


def reopen(context):
    """File positions are shared between processes that were forked, so each needs a file of its own."""
    for name in context.layers:
        layer = context.layers[name]
        if isinstance(layer, physical.FileLayer):
            layer._file_ = None


def run(context, kernel, name, plugin, out):
    result = {"plugin": name, "columns": [], "rows": [], "error": None}
    begin = time.monotonic()
    try:
        path = interfaces.configuration.path_join(BASE, plugin.__name__)
        context.config[interfaces.configuration.path_join(path, "kernel")] = kernel
        constructed = plugins.construct_plugin(context, [], plugin, BASE, MuteProgress(), None)
        result["columns"], result["rows"] = rows_of(constructed)
    except Exception:
        result["error"] = traceback.format_exc()
    result["seconds"] = round(time.monotonic() - begin, 1)
    with open(os.path.join(out, f"{name}.json"), "w") as file:
        json.dump(result, file)
    return result["error"] is None


def main():
    image, symbols, out, jobs, *names = sys.argv[1:]
    constants.OFFLINE = True
    volatility3.symbols.__path__ = [os.path.abspath(symbols)] + constants.SYMBOL_BASEPATHS

    known = {}
    try:
        context, first = prepare(image, known)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise RuntimeError(f"no such plugins: {unknown}")
    except Exception:
        traceback.print_exc()
        return 2
    kernel = first.config["kernel"]

    status, free, waiting = 0, int(jobs), list(names)
    while waiting or free < int(jobs):
        if waiting and free > 0:
            free -= 1
            name = waiting.pop(0)
            if os.fork() == 0:
                reopen(context)
                os._exit(0 if run(context, kernel, name, known[name], out) else 1)
            continue
        status = max(status, abs(os.waitstatus_to_exitcode(os.wait()[1])))
        free += 1
    return status


if __name__ == "__main__":
    sys.exit(main())
