"""Sets that exist already, ours from a run or made elsewhere: read, checked against a dataset, judged as those of a run are.

Imports `suite` and `records`.

    read      a folder or file made elsewhere as a set
    files     images and labels of one file, never unpickled
    fit       whether a set and a dataset belong together
    evaluate  records of sets that exist
    write     a set in forms that other tools read
    hub       sets on the Hugging Face hub
"""
