"""Labelled sequences to train on: the tasks of the Long Range Arena, IMDB and SST-2, one file a task.

Each loader takes the numbers of examples to train, validate and test on and the most tokens of a sequence, and gives
:class:`~experiments.inputs.tasks.contract.Splits`, or, for a model with a tokenizer of its own,
:class:`~experiments.inputs.tasks.contract.Texts`.  Data come from packages of the index, from rules, or from the
folder that the variable ``NYSTROM_DATA`` names: there the original files are read as they are.  What is not there is
not available, told with a line that says where it comes from.
"""
