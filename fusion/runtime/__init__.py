"""The ground floor: keeping, starting and checking things.  It imports nothing of the project.

    configure.py        from plain settings to checked, frozen dataclasses; what a refusal says
    reading.py          JSON and YAML of others, read whole or refused with its place
    safetensors_files.py  what weights' files say of their tensors
    disk.py             what a disk refuses, in one sentence
    visible.py          text of others, as text that a terminal only shows
    places.py           where settings are found: the caller's folders before the project's own
    processes.py        child processes that cannot outlive their parent; threads and processor features held fixed
    nursery.py          child processes forked from one that has their imports
    templates/          chat templates: their settings, and the process that they run in
    given_model.py      a model that somebody gives, by name, path or hub name, and the directory it becomes
    hints.py            what a mistyped setting may have been meant as
    interrupt.py        one Ctrl-C ends a command within seconds
    command.py          how every command begins: Hydra composes, the command gets a plain mapping
    digests.py          files by their bytes
    fingerprint.py      the code that decides a stage's bytes, as a digest that tidying leaves alone
    versions.py         the libraries and the device that can change them
    work.py             how much work a stage is
    stage.py            a stage as a value, which a store runs and a planner weighs
    artifacts.py        the content-addressed store: where a stage's output lives, and when it may be used again
    lanes.py            work side by side, each thing made once
    preflight.py        what would stop a run, as one list; room on disk, memory
    outlook.py          how many stages of a run are left, and about how long they take
    progress.py         what a run shows while it works
    next_step.py        the command that goes on from what another left
    precision.py        the types that weights are held in, and what of an update survives there
    shortfall.py        what a run could not teach, in words
    edit_distance.py    distances between many short strings

`eval` and `ablations` build on it too; of the rest of `fusion`, `eval` knows nothing.
"""
