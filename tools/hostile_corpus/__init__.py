"""A corpus of hostile inputs, each with a twin: the same construction with the one poison taken out.

A hostile input must be refused in one line (or handled, where that is right too), quickly, in little memory and without
a trace; its twin must be accepted, so that nobody gets safe by refusing everything.

    case      what a case is                       judge     the rules, as a pure function
    folder    what lies in a folder                process   one run, watched
    corpus    all cases                            report    the table
    kill      commands ended at a random moment

Model files: `rows_*` are tables of operators and poisons, `placing` puts them into a model (on the path, beside it, in
a body, in a function, behind a chain of nodes); `structure`, `names`, `bodies`, `sizes` and `damage` change a valid
model, `wire` writes what the protobuf library will not. `external` and `files` are faults of files, `data` and
`archive` of npz files. Builders write into an empty folder; nothing here imports the product.
"""
