"""What is kept: records (one flat JSON object per evaluation), the run folder, bundles, the regression gate.

Imports `machine` alone, so that whatever only reads results needs neither torch nor the plugins.

    fields      every field of a record, and the check of records from elsewhere
    records     records on disk: append, read, repair
    run_folder  a run folder: made, tried, locked
    set_facts   what was measured of one set
    own_and_transfer  whether a backbone took part in distilling, also where several did
    bundle      results that travel: what one holds, and refuses
    regression  the gate of CI: a run against a reference
"""
