"""What is kept: records (one flat JSON object per evaluation), the run folder, bundles, the regression gate.

Imports `machine` alone, so that whatever only reads results needs neither torch nor the plugins.
"""
