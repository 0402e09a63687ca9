"""The process that runs one build's kernels: reads calls from stdin, writes results to stdout.

usage: python worker.py MODULE
"""

import importlib.util
import os
import pickle
import sys

specification = importlib.util.spec_from_file_location(
    os.path.basename(sys.argv[1]).split(".")[0], sys.argv[1]
)
kernels = importlib.util.module_from_spec(specification)
specification.loader.exec_module(kernels)
answers = sys.stdout.buffer
while True:
    try:
        function, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = None, getattr(kernels, function)(*arguments)
    except Exception as error:
        answer = error, None
    pickle.dump(answer, answers)
    answers.flush()
